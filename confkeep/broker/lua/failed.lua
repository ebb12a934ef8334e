-- Note that a tenant's commit failed, and double the wait before its next try: 1 s, 2 s, 4 s ...
--
-- If nothing waits any more, another turn has settled it all, and nothing is noted: new backups must not
-- wait for a fault that is over.
--
-- KEYS  1 backoff   confkeep:backoff:<tenant>   hash   tries, since_ms, next_ms, reason
--       2 totals    confkeep:totals             hash   `retried` is counted there
--       3 inbox     confkeep:inbox:<tenant>     stream
-- ARGV  1 reason  2 ms before the second try  3 most ms between two tries
--       4 jitter: the wait is multiplied by it, 0 to 1  5 seconds after which it is forgotten
--
-- Returns the ms until the next try, and the number of failed tries (0 if nothing waits).

-- requires own_types
-- requires numbers

for n, kind in ipairs({'hash', 'hash', 'stream'}) do
  expect(kind, KEYS[n])
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local waits = redis.call('XLEN', KEYS[3]) > 0
local before = waits and redis.call('HMGET', KEYS[1], 'tries', 'since_ms') or {}
local tries = count_of(before[1]) + 1
local wait = tonumber(ARGV[2]) * 2 ^ math.min(tries - 1, 16)
wait = math.floor(math.min(wait, tonumber(ARGV[3])) * tonumber(ARGV[4]))
if waits then
  -- One command: readers see all of it or nothing.
  redis.call(
    'HSET',
    KEYS[1],
    'tries',
    text(tries),
    'since_ms',
    text(count_of(before[2]) > 0 and count_of(before[2]) or now),
    'next_ms',
    text(now + wait),
    'reason',
    ARGV[1]
  )
  redis.call('EXPIRE', KEYS[1], ARGV[5])
end
redis.call('HSET', KEYS[2], 'retried', text(number(redis.call('HGET', KEYS[2], 'retried')) + 1))
return {wait, waits and tries or 0}
