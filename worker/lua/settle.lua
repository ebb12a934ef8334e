-- Take settled backups out of an inbox, with all that belongs to them, in one step, and count them.
--
-- KEYS  1 inbox     confkeep:inbox:<tenant>     stream
--       2 waiting   confkeep:waiting            zset
--       3 replies   confkeep:replies:<tenant>   hash
--       4 backoff   confkeep:backoff:<tenant>   hash
--       5 attempts  confkeep:attempts:<tenant>  string
--       6 load      confkeep:load               hash
--       7 totals    confkeep:totals             hash
--       8 recent    confkeep:recent             list
--       9...        confkeep:staged:<tenant>:<backup> of each whose bytes are not needed any more
-- ARGV  1 tenant  2 number n of backups  3 most rows of `recent`
--       4 the upper bounds of the latency's buckets in ms, ascending, as JSON list
--       5...       n times: stream id, backup_id, size in bytes, the totals that count it (words
--                  such as 'committed unchanged'), its row of `recent` or '', ms of its enqueue
--
-- Returns {entries that are left, ms of the server's clock}.

local n = tonumber(ARGV[2])
local entries, bytes = 0, 0
local counts, rows = {}, {}
local latencies = {}

for i = 0, n - 1 do
  local a = 5 + 6 * i
  -- Settled twice (a turn that was killed, or two at once): counted once.
  if redis.call('XDEL', KEYS[1], ARGV[a]) == 1 then
    local size = tonumber(ARGV[a + 2])
    entries = entries + 1
    bytes = bytes + size
    for word in string.gmatch(ARGV[a + 3], '%a+') do
      counts[word] = (counts[word] or 0) + 1
      if word == 'committed' then
        counts.committed_bytes = (counts.committed_bytes or 0) + size
        latencies[#latencies + 1] = tonumber(ARGV[a + 5])
      end
    end
    if ARGV[a + 4] ~= '' then
      rows[#rows + 1] = ARGV[a + 4]
    end
  end
  redis.call('HDEL', KEYS[3], ARGV[a + 1])
end
for i = 9, #KEYS do
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
  local since = string.match(first[1][1], '^%d+')
  for field = 1, #first[1][2], 2 do
    -- What was handed over has waited before it was in the inbox.
    if first[1][2][field] == 'at' and string.match(first[1][2][field + 1], '^%d+$') then
      since = first[1][2][field + 1]
    end
  end
  redis.call('ZADD', KEYS[2], since, ARGV[1])
  redis.call('HINCRBY', KEYS[6], ARGV[1], -bytes)
end
if redis.call('HINCRBY', KEYS[6], 'entries', -entries) <= 0 then
  redis.call('DEL', KEYS[6])
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
if #latencies > 0 then
  local bounds = cjson.decode(ARGV[4])
  counts.latency_ms = 0
  for _, began in ipairs(latencies) do
    -- The server's clock may have been set back.
    local ms = math.max(0, now - began)
    local bucket = 'latency_ms:inf'
    for _, bound in ipairs(bounds) do
      if ms <= bound then
        bucket = string.format('latency_ms:%d', bound)
        break
      end
    end
    counts.latency_ms = counts.latency_ms + ms
    counts[bucket] = (counts[bucket] or 0) + 1
  end
end
for name, count in pairs(counts) do
  redis.call('HINCRBY', KEYS[7], name, string.format('%.0f', count))
end
if #rows > 0 then
  redis.call('LPUSH', KEYS[8], unpack(rows))
  redis.call('LTRIM', KEYS[8], 0, tonumber(ARGV[3]) - 1)
end
return {left, now}
