-- Take settled backups out of an inbox, with all that belongs to them, in one step.
--
-- KEYS  1 inbox     confkeep:inbox:<tenant>     stream
--       2 waiting   confkeep:waiting            zset
--       3 replies   confkeep:replies:<tenant>   hash
--       4 backoff   confkeep:backoff:<tenant>   hash
--       5 attempts  confkeep:attempts:<tenant>  string
--       6 load      confkeep:load               hash
--       7...        confkeep:staged:<tenant>:<backup> of each whose bytes are not needed any more
-- ARGV  1 tenant  2 number n of backups
--       3...       n times: stream id, backup_id, size in bytes
--
-- Returns the number of entries that are left.

local n = tonumber(ARGV[2])
local entries, bytes = 0, 0
for i = 0, n - 1 do
  -- Settled twice (a turn that was killed, or two at once): counted once.
  if redis.call('XDEL', KEYS[1], ARGV[3 + 3 * i]) == 1 then
    entries = entries + 1
    bytes = bytes + tonumber(ARGV[5 + 3 * i])
  end
  redis.call('HDEL', KEYS[3], ARGV[4 + 3 * i])
end
for i = 7, #KEYS do
  redis.call('DEL', KEYS[i])
end
redis.call('DEL', KEYS[4], KEYS[5])

local left = redis.call('XLEN', KEYS[1])
redis.call('HINCRBY', KEYS[6], 'bytes', -bytes)
if left == 0 then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[6], ARGV[1])
else
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
  redis.call('ZADD', KEYS[2], string.match(first[1][1], '^%d+'), ARGV[1])
  redis.call('HINCRBY', KEYS[6], ARGV[1], -bytes)
end
if redis.call('HINCRBY', KEYS[6], 'entries', -entries) <= 0 then
  redis.call('DEL', KEYS[6])
end
return left
