-- Note that a tenant's commit failed, and double the wait before its next try: 1 s, 2 s, 4 s ...
--
-- If nothing waits any more, another turn has settled it all, and nothing is noted: new backups must not
-- wait for a fault that is over.
--
-- KEYS  1 backoff   confkeep:backoff:<tenant>   hash   tries, since_ms, next_ms, reason;
--                                                      `told` once it was said to be stalled
--       2 totals    confkeep:totals             hash   `retried` is counted there
--       3 inbox     confkeep:inbox:<tenant>     stream
--       4 arrivals  confkeep:arrivals:<tenant>  list
--       5 events    confkeep:events             stream
-- ARGV  1 reason  2 ms before the second try  3 most ms between two tries
--       4 jitter: the wait is multiplied by it, 0 to 1  5 seconds after which it is forgotten
--       6 tenant  7 tries after which it is stalled  8 most events to keep
--
-- Returns the ms until the next try, and the number of failed tries (0 if nothing waits).

-- requires own_types
-- requires numbers
-- requires events

for n, kind in ipairs({'hash', 'hash', 'stream', 'list', 'stream'}) do
  expect(kind, KEYS[n])
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local waits = redis.call('XLEN', KEYS[3]) + redis.call('LLEN', KEYS[4]) > 0
local before = waits and redis.call('HMGET', KEYS[1], 'tries', 'since_ms', 'told') or {}
local tries = count_of(before[1]) + 1
local wait = tonumber(ARGV[2]) * 2 ^ math.min(tries - 1, 16)
wait = math.floor(math.min(wait, tonumber(ARGV[3])) * tonumber(ARGV[4]))
if waits then
  local since = text(count_of(before[2]) > 0 and count_of(before[2]) or now)
  local told = before[3]
  if tries >= tonumber(ARGV[7]) and not told then
    local said = '"tries":' .. text(tries) .. ',"reason":' .. cjson.encode(ARGV[1])
    tell_of_wait(KEYS[5], 'tenant.stalled', ARGV[6], text(now), since, said)
    trim_events(KEYS[5], ARGV[8])
  end
  -- One command: readers see all of it or nothing.
  redis.call(
    'HSET',
    KEYS[1],
    'tries',
    text(tries),
    'since_ms',
    since,
    'next_ms',
    text(now + wait),
    'reason',
    ARGV[1],
    unpack((told or tries >= tonumber(ARGV[7])) and {'told', '1'} or {})
  )
  redis.call('EXPIRE', KEYS[1], ARGV[5])
end
redis.call('HSET', KEYS[2], 'retried', text(number(redis.call('HGET', KEYS[2], 'retried')) + 1))
return {wait, waits and tries or 0}
