-- Settle backups: take their entries out of the inbox, delete what belongs to them, and count them.
--
-- An entry is deleted by its own id, and an empty inbox stays. Deleting the inbox would also delete entries
-- of an interrupted transaction, and give ids a second time after the clock was set back. Only an inbox that
-- takes no further entry is deleted. With n = 0 the marks of an inbox that is empty already are removed.
--
-- KEYS  1 inbox     confkeep:inbox:<tenant>     stream
--       2 waiting   confkeep:waiting            zset
--       3 replies   confkeep:replies:<tenant>   hash
--       4 backoff   confkeep:backoff:<tenant>   hash
--       5 attempts  confkeep:attempts:<tenant>  string
--       6 load      confkeep:load               hash
--       7 totals    confkeep:totals             hash
--       8 recent    confkeep:recent             list
--       9 events    confkeep:events             stream
--       10...       confkeep:staged:<tenant>:<backup> of each whose bytes may go
-- ARGV  1 tenant  2 number n of backups  3 most rows of `recent`
--       4 upper bounds of the latency's buckets in ms, ascending, as JSON list
--       5 most events to keep
--       6...       n times: stream id, the entry as it was read there, backup_id, size in bytes, the
--                  totals that count it (words such as 'committed unchanged'), its row of `recent` or
--                  '', ms of its enqueue, its event as JSON or ''
--
-- Returns {entries that are left, ms of the server's clock}.

-- requires own_types
-- requires numbers
-- requires entry_at
-- requires events

for n, kind in ipairs({'stream', 'zset', 'hash', 'hash', 'string', 'hash', 'hash', 'list', 'stream'}) do
  expect(kind, KEYS[n])
end

local n = tonumber(ARGV[2])
local entries, bytes, told = 0, 0, 0
local counts, rows = {}, {}
local latencies = {}

-- The entries are usually consecutive: reading one range costs a third of a look-up for each.
local read = {}
if n > 1 then
  for _, row in ipairs(redis.call('XRANGE', KEYS[1], ARGV[6], ARGV[6 + 8 * (n - 1)], 'COUNT', n)) do
    read[row[1]] = field_of(row[2], 'entry')
  end
end

for i = 0, n - 1 do
  local a = 6 + 8 * i
  -- A killed turn, or two at once, may settle an entry twice: it counts once. Another entry may have that
  -- id by now.
  if (read[ARGV[a]] or entry_at(KEYS[1], ARGV[a])) == ARGV[a + 1] then
    if ARGV[a + 7] ~= '' then
      tell(KEYS[9], ARGV[a + 7])
      told = told + 1
    end
    redis.call('XDEL', KEYS[1], ARGV[a])
    read[ARGV[a]] = nil
    local size = tonumber(ARGV[a + 3])
    entries = entries + 1
    bytes = bytes + size
    for word in string.gmatch(ARGV[a + 4], '%a+') do
      counts[word] = (counts[word] or 0) + 1
      if word == 'committed' then
        counts.committed_bytes = (counts.committed_bytes or 0) + size
        latencies[#latencies + 1] = tonumber(ARGV[a + 6])
      end
    end
    if ARGV[a + 5] ~= '' then
      rows[#rows + 1] = ARGV[a + 5]
    end
  end
  redis.call('HDEL', KEYS[3], ARGV[a + 2])
end
for i = 10, #KEYS do
  redis.call('DEL', KEYS[i])
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local wait = redis.call('HMGET', KEYS[4], 'told', 'since_ms', 'reason')
if wait[1] then
  local seconds = math.max(0, now - count_of(wait[2])) / 1000
  local said = string.format('"seconds":%.1f,"reason":%s', seconds, cjson.encode(wait[3] or ''))
  tell_of_wait(KEYS[9], 'tenant.resumed', ARGV[1], text(now), text(count_of(wait[2])), said)
  told = told + 1
end
redis.call('DEL', KEYS[4], KEYS[5])

local left = redis.call('XLEN', KEYS[1])
local held = redis.call('HMGET', KEYS[6], 'entries', 'bytes', ARGV[1])
local mine = count_of(held[3])
local rest = left > 0 and math.max(0, mine - bytes) or 0
if left == 0 then
  if is_exhausted(KEYS[1]) then
    -- It could never take an entry again, and holds none of an interrupted transaction.
    redis.call('DEL', KEYS[1])
  end
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[6], ARGV[1])
else
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  -- `at` says when it was handed over or accepted. Entries of earlier releases only have their ids.
  local at = field_of(first[2], 'at') or ''
  local since = #at <= 15 and string.match(at, '^%d+$') or string.match(first[1], '^%d+')
  redis.call('ZADD', KEYS[2], since, ARGV[1])
  redis.call('HSET', KEYS[6], ARGV[1], text(rest))
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('DEL', KEYS[6])
elseif entries > 0 or mine ~= rest then
  redis.call(
    'HSET',
    KEYS[6],
    'entries',
    text(count_of(held[1]) - entries),
    'bytes',
    text(count_of(held[2]) - (mine - rest))
  )
end

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
local names = {}
for name in pairs(counts) do
  names[#names + 1] = name
end
if #names > 0 then
  local before = redis.call('HMGET', KEYS[7], unpack(names))
  local fields = {}
  for i, name in ipairs(names) do
    fields[2 * i - 1], fields[2 * i] = name, text(number(before[i]) + counts[name])
  end
  redis.call('HSET', KEYS[7], unpack(fields))
end
if #rows > 0 then
  redis.call('LPUSH', KEYS[8], unpack(rows))
  redis.call('LTRIM', KEYS[8], 0, tonumber(ARGV[3]) - 1)
end
if told > 0 then
  trim_events(KEYS[9], ARGV[5])
end
return {left, now}
