-- Take settled backups out of an inbox, with all that belongs to them, in one step.
--
-- KEYS  1 inbox     confkeep:inbox:<tenant>     stream
--       2 waiting   confkeep:waiting            zset
--       3 replies   confkeep:replies:<tenant>   hash
--       4 backoff   confkeep:backoff:<tenant>   hash
--       5...        confkeep:staged:<tenant>:<backup> of each whose bytes are not needed any more
-- ARGV  1 tenant  2 number n of backups  3...n+2 their entries' stream ids
--       n+3...2n+2 their backup_ids
--
-- Returns the number of entries that are left.

local n = tonumber(ARGV[2])
for i = 3, n + 2 do
  redis.call('XDEL', KEYS[1], ARGV[i])
end
for i = n + 3, 2 * n + 2 do
  redis.call('HDEL', KEYS[3], ARGV[i])
end
for i = 5, #KEYS do
  redis.call('DEL', KEYS[i])
end
redis.call('DEL', KEYS[4])
local left = redis.call('XLEN', KEYS[1])
if left == 0 then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
  redis.call('ZADD', KEYS[2], string.match(first[1][1], '^%d+'), ARGV[1])
end
return left
