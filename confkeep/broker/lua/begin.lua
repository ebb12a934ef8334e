-- Begin a batch of a turn: answer a wake-up if it is due, take or renew the tenant lock, count the try, and read.
--
-- KEYS  1 inbox     confkeep:inbox:<tenant>     stream
--       2 wake      confkeep:wake:<tenant>      string  ms at which a wake-up was sent; with a 't' if a turn did
--       3 backoff   confkeep:backoff:<tenant>   hash    tries, since_ms, next_ms, reason
--       4 lock      confkeep:lock:<tenant>      string  its owner's token
--       5 attempts  confkeep:attempts:<tenant>  string  batches begun since one was last settled
-- ARGV  the first line names them
--
-- Nothing is written but what the lock's owner needs: of an interrupted transaction it leaves a lock that
-- expires, or a try that the next settling forgets.
--
-- Returns {outcome, the fields of the wait, ms of the server's clock, tries, entries}.
-- outcome  'begun'     the lock is the caller's
--          'outdated'  a turn has sent a wake-up after this one
--          'early'     the tenant waits after a fault
--          'busy'      somebody else holds the lock
-- tries    with this one; 0 if nothing waits
-- entries  {stream id, its fields, its bytes} of each; without bytes where they were not read

-- requires own_types
-- requires numbers
-- requires clock
-- requires due
-- requires entry_at

local token, lock_ms, sent_ms, retry, longest_ms, most, alone_after, forget_s, staged, room = unpack(ARGV)
local inbox, wake, backoff, lock, attempts = unpack(KEYS)
expect_all({'stream', 'string', 'hash', 'string', 'string'}, KEYS)
local now = clock_ms()
local wait = redis.call('HGETALL', backoff)

local function answer(outcome, tries, entries)
  return {outcome, wait, now, tries or 0, entries or {}}
end

if sent_ms ~= '' then
  local by_turn = string.match(redis.call('GET', wake) or '', '^(%d+)t')
  if by_turn and number(by_turn) > tonumber(sent_ms) then
    return answer('outdated')
  end
end
if retry ~= '1' and not is_due(backoff, tonumber(longest_ms), 0) then
  return answer('early')
end
local owner = redis.call('GET', lock)
if owner and owner ~= token then
  return answer('busy')
end
redis.call('SET', lock, token, 'PX', lock_ms)
if redis.call('XLEN', inbox) == 0 then
  return answer('begun')
end

local tries = number(redis.call('GET', attempts)) + 1
redis.call('SET', attempts, text(tries), 'EX', forget_s)
local rows = redis.call('XRANGE', inbox, '-', '+', 'COUNT', tries > tonumber(alone_after) and 1 or most)
room = tonumber(room)
for _, row in ipairs(rows) do
  local backup = string.match(field_of(row[2], 'entry') or '', '"backup_id": ?"([%x-]+)"')
  if backup then
    local key = staged .. backup
    -- The caller reads what is large by itself, and what is of another type.
    local length = redis.pcall('STRLEN', key)
    if type(length) == 'number' and length > 0 and length <= room then
      row[3] = redis.call('GET', key)
      room = room - length
    end
  end
end
return answer('begun', tries, rows)
