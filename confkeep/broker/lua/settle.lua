-- Settle backups: publish their receipts, then take their entries out of the inbox, delete what belongs to them,
-- and count them. Where the turn ends with it, let go of the tenant.
--
-- All receipts come first: an interrupted transaction may leave receipts of what waits still, and never takes out
-- what has none. An entry is deleted by its own id, and an empty inbox stays. Deleting the inbox would also delete
-- entries of an interrupted transaction, and give ids a second time after the clock was set back. Only an inbox that
-- takes no further entry is deleted. With no backup the marks of an inbox that is empty already are removed.
--
-- KEYS  1 inbox     confkeep:inbox:<tenant>     stream
--       2 waiting   confkeep:waiting            zset
--       3 replies   confkeep:replies:<tenant>   hash    backup -> JSON list of further result ids
--       4 backoff   confkeep:backoff:<tenant>   hash
--       5 attempts  confkeep:attempts:<tenant>  string
--       6 load      confkeep:load               hash
--       7 totals    confkeep:totals             hash
--       8 recent    confkeep:recent             list
--       9 events    confkeep:events             stream
--      10 lock      confkeep:lock:<tenant>      string
--      11 wake      confkeep:wake:<tenant>      string
--      12...        confkeep:staged:<tenant>:<backup> of each whose bytes may go
-- ARGV  the lines that begin with `local` name them: first those of all backups, then those of each
--
-- leave  'no'     the turn goes on
--        'empty'  it ends if nothing is left
--        'now'    it ends; what is left gets a wake-up, which the caller sends with the ms that are returned
--
-- The turn ends where its last look is taken: who was refused the lock before, or found the flag set, put its
-- entry in before, so it is seen here.
--
-- Returns {entries that are left, ms of the server's clock, whether the turn has ended: 1, or 0 if not, or if
-- somebody else holds the lock by now; 2 if it has, and what is left goes before others' bulk}.

-- requires own_types
-- requires numbers
-- requires clock
-- requires entry_at
-- requires events
-- requires answer_once

local tenant, most_recent, bounds, most_events, leave, token, flag_ms, results, receipt_s = unpack(ARGV, 1, 9)
local FIRST, EACH = 10, 10
local inbox, waiting, replies, backoff, attempts, load, totals, recent, events, lock, wake = unpack(KEYS, 1, 11)
local KINDS = {
  'stream', 'zset', 'hash', 'hash', 'string', 'hash', 'hash', 'list', 'stream', 'string', 'string',
}
expect_all(KINDS, KEYS)

local n = (#ARGV - FIRST + 1) / EACH
local entries, bytes, told = 0, 0, 0
local counts, rows = {}, {}
local latencies = {}

-- A record is its beginning, its id, and the digest that guards the id. Further result ids get the same
-- without a digest: they guard nothing.
local backups = {}
for i = 0, n - 1 do
  local a = FIRST + EACH * i
  local each = {unpack(ARGV, a, a + EACH - 1)}
  backups[i + 1] = each
end
for _, each in ipairs(backups) do
  local _, _, backup, _, _, _, _, _, receipt, guard = unpack(each)
  if receipt ~= '' then
    local record = receipt .. cjson.encode(backup) .. guard .. '}'
    redis.call('SET', results .. backup, record, 'EX', receipt_s)
    redis.call('PUBLISH', results .. backup, record)
  end
end
for _, each in ipairs(backups) do
  local _, _, backup, _, _, _, _, _, receipt = unpack(each)
  if receipt ~= '' then
    local ids = redis.call('HGET', replies, backup)
    for _, id in ipairs(ids and object_of(ids) or {}) do
      if type(id) == 'string' and id ~= backup then
        answer_once(results .. id, receipt .. cjson.encode(id) .. '}', receipt_s)
      end
    end
  end
end

-- The entries are usually consecutive: reading one range costs a third of a look-up for each.
local read = {}
if n > 1 then
  for _, row in ipairs(redis.call('XRANGE', inbox, backups[1][1], backups[n][1], 'COUNT', n)) do
    read[row[1]] = field_of(row[2], 'entry')
  end
end

for _, each in ipairs(backups) do
  local id, entry, backup, size, words, row, began, event = unpack(each)
  -- A killed turn, or two at once, may settle an entry twice: it counts once. Another entry may have that
  -- id by now.
  if (read[id] or entry_at(inbox, id)) == entry then
    if event ~= '' then
      tell(events, event)
      told = told + 1
    end
    redis.call('XDEL', inbox, id)
    read[id] = nil
    entries = entries + 1
    bytes = bytes + tonumber(size)
    for word in string.gmatch(words, '%a+') do
      counts[word] = (counts[word] or 0) + 1
      if word == 'committed' then
        counts.committed_bytes = (counts.committed_bytes or 0) + tonumber(size)
        latencies[#latencies + 1] = tonumber(began)
      end
    end
    if row ~= '' then
      rows[#rows + 1] = row
    end
  end
  redis.call('HDEL', replies, backup)
end
for i = 12, #KEYS do
  local staged = KEYS[i]
  redis.call('DEL', staged)
end
local now = clock_ms()
local left = redis.call('XLEN', inbox)
-- Only a turn that settled something has ended the tenant's wait.
local wait = (n > 0 or left == 0) and redis.call('HMGET', backoff, 'told', 'since_ms', 'reason') or {}
if wait[1] then
  local seconds = math.max(0, now - count_of(wait[2])) / 1000
  local said = string.format('"seconds":%.1f,"reason":%s', seconds, cjson.encode(wait[3] or ''))
  tell_of_wait(events, 'tenant.resumed', tenant, text(now), text(count_of(wait[2])), said)
  told = told + 1
end
if n > 0 or left == 0 then
  redis.call('DEL', backoff, attempts)
end

local held = redis.call('HMGET', load, 'entries', 'bytes', tenant)
local mine = count_of(held[3])
local rest = left > 0 and math.max(0, mine - bytes) or 0
if left == 0 then
  if is_exhausted(inbox) then
    -- It could never take an entry again, and holds none of an interrupted transaction.
    redis.call('DEL', inbox)
  end
  redis.call('ZREM', waiting, tenant)
  redis.call('HDEL', load, tenant)
else
  local first = redis.call('XRANGE', inbox, '-', '+', 'COUNT', 1)[1]
  -- `at` says when it was handed over or accepted. Entries of earlier releases only have their ids.
  local at = field_of(first[2], 'at') or ''
  local since = #at <= 15 and string.match(at, '^%d+$') or string.match(first[1], '^%d+')
  redis.call('ZADD', waiting, since, tenant)
  redis.call('HSET', load, tenant, text(rest))
end
if redis.call('EXISTS', waiting) == 0 then
  redis.call('DEL', load)
elseif entries > 0 or mine ~= rest then
  redis.call(
    'HSET',
    load,
    'entries',
    text(count_of(held[1]) - entries),
    'bytes',
    text(count_of(held[2]) - (mine - rest))
  )
end

if #latencies > 0 then
  counts.latency_ms = 0
  local most_ms = cjson.decode(bounds)
  for _, began in ipairs(latencies) do
    -- The server's clock may have been set back.
    local ms = math.max(0, now - began)
    local bucket = 'latency_ms:inf'
    for _, bound in ipairs(most_ms) do
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
  local before = redis.call('HMGET', totals, unpack(names))
  local fields = {}
  for i, name in ipairs(names) do
    fields[2 * i - 1], fields[2 * i] = name, text(number(before[i]) + counts[name])
  end
  redis.call('HSET', totals, unpack(fields))
end
if #rows > 0 then
  redis.call('LPUSH', recent, unpack(rows))
  redis.call('LTRIM', recent, 0, tonumber(most_recent) - 1)
end
if told > 0 then
  trim_events(events, most_events)
end

local owner = redis.call('GET', lock)
if (owner and owner ~= token) or not (leave == 'now' or (leave == 'empty' and left == 0)) then
  return {left, now, 0}
end
-- A batch that was begun and not tried ends in order: no entry is to blame.
redis.call('DEL', lock, attempts)
if left == 0 then
  redis.call('DEL', wake)
else
  local upto = string.match(redis.call('GET', wake) or '', 'h(%d+)$')
  local oldest = string.match(redis.call('XRANGE', inbox, '-', '+', 'COUNT', 1)[1][1], '^%d+')
  local is_high = upto and number(oldest) <= number(upto)
  redis.call('SET', wake, text(now) .. 't' .. (is_high and 'h' .. upto or ''), 'PX', flag_ms)
  return {left, now, is_high and 2 or 1}
end
return {left, now, 1}
