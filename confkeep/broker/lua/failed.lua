-- Note that a tenant's commit failed, and double the wait before its next try: 1 s, 2 s, 4 s ...
--
-- If nothing waits any more, another turn has settled it all, and nothing is noted: new backups must not
-- wait for a fault that is over.
--
-- KEYS  1 backoff   confkeep:backoff:<tenant>   hash   tries, since_ms, next_ms, reason;
--                                                      `told` once it was said to be stalled
--       2 totals    confkeep:totals             hash   `retried` is counted there
--       3 inbox     confkeep:inbox:<tenant>     stream
--       4 events    confkeep:events             stream
-- ARGV  the first line names them:
--       first_ms, longest_ms  ms before the second try, and the most between two tries
--       jitter    the wait is multiplied by it, 0 to 1
--       life_s    seconds after which it is forgotten
--       stalled   tries after which it is stalled
--
-- Returns the ms until the next try, and the number of failed tries (0 if nothing waits).

-- requires own_types
-- requires numbers
-- requires clock
-- requires events

local backoff, totals, inbox, events = unpack(KEYS)
local reason, first_ms, longest_ms, jitter, life_s, tenant, stalled, most_events = unpack(ARGV)
expect_all({'hash', 'hash', 'stream', 'stream'}, KEYS)

local now = clock_ms()
local waits = redis.call('XLEN', inbox) > 0
local before = waits and redis.call('HMGET', backoff, 'tries', 'since_ms', 'told') or {}
local tries = count_of(before[1]) + 1
local wait = tonumber(first_ms) * 2 ^ math.min(tries - 1, 16)
wait = math.floor(math.min(wait, tonumber(longest_ms)) * tonumber(jitter))
if waits then
  local since = text(count_of(before[2]) > 0 and count_of(before[2]) or now)
  local told = before[3]
  local is_stalled = tries >= tonumber(stalled)
  if is_stalled and not told then
    local said = '"tries":' .. text(tries) .. ',"reason":' .. cjson.encode(reason)
    tell_of_wait(events, 'tenant.stalled', tenant, text(now), since, said)
    trim_events(events, most_events)
  end
  -- One command: readers see all of it or nothing.
  redis.call(
    'HSET',
    backoff,
    'tries',
    text(tries),
    'since_ms',
    since,
    'next_ms',
    text(now + wait),
    'reason',
    reason,
    unpack((told or is_stalled) and {'told', '1'} or {})
  )
  redis.call('EXPIRE', backoff, life_s)
end
redis.call('HSET', totals, 'retried', text(number(redis.call('HGET', totals, 'retried')) + 1))
return {wait, waits and tries or 0}
