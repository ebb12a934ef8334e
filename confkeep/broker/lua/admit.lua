-- Admit a tenant's oldest arrivals to its inbox: each whole or not at all, and each backup_id once.
--
-- It writes in the order of accept.lua, and removes an arrival from the list, by its text, at the end.
--
-- KEYS  1 arrivals  confkeep:arrivals:<tenant>  list
--       2 arriving  confkeep:arriving           hash    entries and bytes in all lists of arrivals, and
--                                                       the bytes in each tenant's
--       3 inbox     confkeep:inbox:<tenant>     stream
--       4 waiting   confkeep:waiting            zset
--       5 wake      confkeep:wake:<tenant>      string
--       6 dead      confkeep:dead               hash
--       7 load      confkeep:load               hash
--       8 totals    confkeep:totals             hash
--       9 ids       confkeep:arriving:<tenant>  hash    backup -> digest of its first hand-over
--       10...       for each arrival: its record (celery-task-meta-<backup>), its bytes in staging
--                   (confkeep:staged:<tenant>:<backup>), its bytes as they came
--                   (confkeep:arrived:<tenant>:<uuid>)
-- ARGV  1 tenant  2 life of a record in seconds
--       3 life of the wake flag in ms if a turn runs, which finds what comes meanwhile; else 0
--       4...        for each arrival: its text in the list, '1' when it is a backup or '0' when a person
--                   must decide, backup_id, digest, entry, record while it waits or '', size in bytes,
--                   signature or '', ms of its hand-over or '0', the id that it came with
--
-- Returns for each:
--   'accepted'
--   'waiting', 'done'   the id was accepted before, with the same digest
--   'odd'        a person must decide; it is in the inbox now
--   'conflict'   the id was accepted with another digest; this arrival and those after it stay
--   'stuck'      alone: the inbox takes no entry until a worker has looked at it; all arrivals stay
-- The answer is shorter when an arrival is not the oldest any more: another process was quicker.

-- requires own_types
-- requires same_backup
-- requires numbers
-- requires entry_at
-- requires has_entry

local FIRST_KEY, KEYS_EACH, FIRST_ARG, ARGS_EACH = 10, 3, 4, 10

for n, kind in ipairs({'list', 'hash', 'stream', 'zset', 'string', 'hash', 'hash', 'hash', 'hash'}) do
  expect(kind, KEYS[n])
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local outcomes = {}
local popped, size_popped, enqueued = 0, 0, 0

local function into_inbox(a, size)
  -- The producer's clock: it may be ahead of the server's.
  local at = math.min(tonumber(ARGV[a + 8]), now)
  if at <= 0 then
    at = now
  end
  local fields = {'entry', ARGV[a + 4], 'at', string.format('%.0f', at)}
  if ARGV[a + 7] ~= '' then
    fields[5], fields[6] = 'signature', ARGV[a + 7]
  end
  local id = redis.call('XADD', KEYS[3], '*', unpack(fields))
  local held = redis.call('HMGET', KEYS[7], 'entries', 'bytes', ARGV[1])
  redis.call(
    'HSET',
    KEYS[7],
    'entries',
    text(count_of(held[1]) + 1),
    'bytes',
    text(count_of(held[2]) + size),
    ARGV[1],
    text(count_of(held[3]) + size)
  )
  redis.call('ZADD', KEYS[4], 'NX', fields[4], ARGV[1])
  return id
end

local function outcome_of(k, a)
  if ARGV[a + 1] == '0' then
    return 'odd'
  end
  local record = redis.pcall('GET', KEYS[k])
  local known = type(record) == 'string' and object_of(record)
  if record and not known then
    -- Something overwrote the record: the id may have been accepted for another backup.
    return 'conflict'
  end
  if known and known['accepted'] then
    if known['accepted'] ~= ARGV[a + 3] then
      return 'conflict'
    end
    if known['status'] == 'SUCCESS' then
      return 'done'
    end
    if known['status'] ~= 'FAILURE' and has_entry(known, KEYS[3], ARGV[a + 2]) then
      return 'waiting'
    end
  end
  -- A dead letter that arrives again is accepted again, with its bytes. Another backup's letter stays.
  local letter = redis.call('HGET', KEYS[6], ARGV[a + 2])
  if letter and not is_same(letter, ARGV[1], ARGV[a + 4]) then
    return 'conflict'
  end
  return 'accepted'
end

if #KEYS >= FIRST_KEY and is_exhausted(KEYS[3]) then
  redis.call('ZADD', KEYS[4], 'NX', text(now), ARGV[1])
  return {'stuck'}
end

for i = 0, (#KEYS - FIRST_KEY + 1) / KEYS_EACH - 1 do
  local k, a = FIRST_KEY + i * KEYS_EACH, FIRST_ARG + i * ARGS_EACH
  if redis.call('LINDEX', KEYS[1], 0) ~= ARGV[a] then
    break
  end
  local outcome = outcome_of(k, a)
  outcomes[i + 1] = outcome
  if outcome == 'conflict' then
    break
  end
  local size = tonumber(ARGV[a + 6])
  size_popped = size_popped + size
  local bytes = redis.call('EXISTS', KEYS[k + 2]) == 1
  if outcome == 'accepted' then
    if bytes then
      redis.call('RENAME', KEYS[k + 2], KEYS[k + 1])
    end
    local id = into_inbox(a, size)
    redis.call('SET', KEYS[k], naming(ARGV[a + 5], id), 'EX', ARGV[2])
    redis.call('HDEL', KEYS[6], ARGV[a + 2])
    enqueued = enqueued + 1
  else
    -- An unsigned arrival may name the id of a real backup, whose bytes must stay.
    if bytes and (outcome ~= 'odd' or redis.call('RENAMENX', KEYS[k + 2], KEYS[k + 1]) == 0) then
      redis.call('DEL', KEYS[k + 2])
    end
    if outcome ~= 'odd' then
      -- An interrupted transaction may have left a letter, which is obsolete.
      redis.call('HDEL', KEYS[6], ARGV[a + 2])
    end
    if outcome == 'odd' then
      local id = into_inbox(a, 0)
      if ARGV[a + 5] ~= '' then
        -- So that its waiters can be told later. An existing record is another backup's.
        redis.call('SET', KEYS[k], naming(ARGV[a + 5], id), 'NX', 'EX', ARGV[2])
      end
    elseif outcome == 'waiting' then
      redis.call('ZADD', KEYS[4], 'NX', text(now), ARGV[1])
    end
  end
  -- Last: an arrival whose admission was interrupted is admitted again.
  redis.call('LREM', KEYS[1], 1, ARGV[a])
  popped = popped + 1
  -- The record holds the digest now.
  redis.call('HDEL', KEYS[9], ARGV[a + 9])
end

if enqueued > 0 then
  redis.call('HSET', KEYS[8], 'enqueued', text(number(redis.call('HGET', KEYS[8], 'enqueued')) + enqueued))
end
if popped > 0 and ARGV[3] ~= '0' then
  redis.call('SET', KEYS[5], string.format('%.0f', now), 'NX', 'PX', ARGV[3])
end

if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('DEL', KEYS[9])
end
-- Producers count what they hand over, and may count wrong: the tenant's count ends with its last arrival.
if redis.call('EXISTS', KEYS[2]) == 1 then
  local held = redis.call('HMGET', KEYS[2], 'entries', 'bytes', ARGV[1])
  local counted = count_of(held[3])
  local gone = math.min(counted, size_popped)
  if redis.call('EXISTS', KEYS[1]) == 0 then
    gone = counted
    redis.call('HDEL', KEYS[2], ARGV[1])
  else
    redis.call('HSET', KEYS[2], ARGV[1], text(counted - gone))
  end
  redis.call(
    'HSET',
    KEYS[2],
    'entries',
    text(count_of(held[1]) - popped),
    'bytes',
    text(count_of(held[2]) - gone)
  )
  if redis.call('HLEN', KEYS[2]) == 2 then
    redis.call('DEL', KEYS[2])
  end
end
return outcomes
