-- Accept backups: each whole or not at all, and each backup_id once.
--
-- One call takes many backups, so that the server syncs its file once. After a power cut the server may
-- execute only the first writes of a call, at its second start. So the bytes are written first, then the
-- entry, the sweep's mark and the record that says 'accepted'; a dead letter of the same id goes last.
--
-- KEYS and ARGV repeat these for each backup. KEYS ends with confkeep:room (string), the most bytes that
-- may wait in the server's memory, and confkeep:totals (hash), which counts accepted backups.
--
-- KEYS  1 record    celery-task-meta-<backup>   string  the backup's one record (Celery's result)
--       2 inbox     confkeep:inbox:<tenant>     stream
--       3 waiting   confkeep:waiting            zset    tenant -> ms at which its oldest entry came
--       4 wake      confkeep:wake:<tenant>      string  ms at which a wake-up was sent
--       5 replies   confkeep:replies:<tenant>   hash    backup -> JSON list of further result ids
--       6 dead      confkeep:dead               hash    backup -> dead letter
--       7 load      confkeep:load               hash    entries and bytes in all inboxes, and
--                                                       the bytes in each tenant's
--       8 backoff   confkeep:backoff:<tenant>   hash    why its commits wait, and until when
--       9 staged    confkeep:staged:<tenant>:<backup>   string
-- ARGV  1 tenant  2 backup_id  3 digest  4 entry  5 the record while it waits
--       6 life of the record in seconds  7 life of the wake flag in ms
--       8 a further result id that gets the receipt, or ''
--       9 size of the backup in bytes
--      10...13 most entries and bytes of a tenant, and in all
--      14 '1' when the bytes follow  15 the bytes, or ''  16 signature, or ''
--
-- Returns {outcome, wake, entries, bytes} for each.
-- outcome  'accepted'
--          'waiting', 'done'   the id was accepted before, with the same digest
--          'conflict'          the id was accepted before, with another digest
--          'garbled'           the value under its id is no record
--          'stuck'             its inbox takes no entry until a worker has looked at it
--          'tenant full', 'all full'   a limit is reached
--          'behind'            this call refused an earlier one of its tenant at a limit: accepted, this one would overtake it for ever
-- wake     the ms with which the caller has to send a wake-up, or 0
-- entries, bytes   what waits already if a limit is reached, else 0

-- requires own_types
-- requires same_backup
-- requires numbers
-- requires entry_at
-- requires has_entry

local KEYS_EACH, ARGV_EACH = 9, 16
-- Tenants of which this call refused a backup at a limit.
local refused = {}
-- Tenant -> whether its inbox takes no entry.
local exhausted = {}
local enqueued = 0
local KINDS = {false, 'stream', 'zset', 'string', 'hash', 'hash', 'hash', 'hash'}
expect('string', KEYS[#KEYS - 1])
expect('hash', KEYS[#KEYS])
local room = tonumber(redis.call('GET', KEYS[#KEYS - 1]) or math.huge) or math.huge
if room <= 0 then
  room = math.huge
end
local time = redis.call('TIME')
local now = text(tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))

-- Add a further result id for the receipt.
local function note_reply(k, a)
  if ARGV[a + 8] == '' or ARGV[a + 8] == ARGV[a + 2] then
    return
  end
  local before = redis.call('HGET', KEYS[k + 5], ARGV[a + 2])
  local ids = {}
  for _, id in ipairs(before and object_of(before) or {}) do
    if id == ARGV[a + 8] then
      return
    end
    ids[#ids + 1] = type(id) == 'string' and id or nil
  end
  ids[#ids + 1] = ARGV[a + 8]
  redis.call('HSET', KEYS[k + 5], ARGV[a + 2], cjson.encode(ids))
end

local function accept(k, a)
  for n = 2, #KINDS do
    expect(KINDS[n], KEYS[k + n])
  end
  local record = redis.pcall('GET', KEYS[k + 1])
  if record then
    local known = type(record) == 'string' and object_of(record)
    if not known then
      return {'garbled', 0, 0, 0}
    end
    if known['accepted'] then
      if known['accepted'] ~= ARGV[a + 3] then
        return {'conflict', 0, 0, 0}
      end
      if known['status'] == 'SUCCESS' then
        -- An interrupted transaction may have left a letter, which is obsolete.
        redis.call('HDEL', KEYS[k + 6], ARGV[a + 2])
        return {'done', 0, 0, 0}
      end
      -- A dead letter, or a backup without its entry, is accepted again: this call brings its bytes.
      if known['status'] ~= 'FAILURE' and has_entry(known, KEYS[k + 2], ARGV[a + 2]) then
        redis.call('ZADD', KEYS[k + 3], 'NX', now, ARGV[a + 1])
        redis.call('HDEL', KEYS[k + 6], ARGV[a + 2])
        note_reply(k, a)
        return {'waiting', 0, 0, 0}
      end
    end
  end

  local letter = redis.call('HGET', KEYS[k + 6], ARGV[a + 2])
  if letter and not is_same(letter, ARGV[a + 1], ARGV[a + 4]) then
    return {'conflict', 0, 0, 0}
  end
  if refused[ARGV[a + 1]] then
    return {'behind', 0, 0, 0}
  end
  if exhausted[ARGV[a + 1]] == nil then
    exhausted[ARGV[a + 1]] = is_exhausted(KEYS[k + 2])
  end
  if exhausted[ARGV[a + 1]] then
    -- The sweep sends a worker, which removes the foreign entry.
    redis.call('ZADD', KEYS[k + 3], 'NX', now, ARGV[a + 1])
    return {'stuck', 0, 0, 0}
  end
  local size = tonumber(ARGV[a + 9])
  local held = redis.call('HMGET', KEYS[k + 7], 'entries', 'bytes', ARGV[a + 1])
  local entries, bytes = redis.call('XLEN', KEYS[k + 2]), count_of(held[3])
  if entries + 1 > tonumber(ARGV[a + 10]) or (entries > 0 and bytes + size > tonumber(ARGV[a + 11])) then
    refused[ARGV[a + 1]] = true
    return {'tenant full', 0, entries, bytes}
  end
  local all_entries, all_bytes = count_of(held[1]), count_of(held[2])
  local most = tonumber(ARGV[a + 13])
  if ARGV[a + 14] == '1' then
    most = math.min(most, room)
  end
  if all_entries + 1 > tonumber(ARGV[a + 12]) or (all_entries > 0 and all_bytes + size > most) then
    refused[ARGV[a + 1]] = true
    return {'all full', 0, all_entries, all_bytes}
  end

  if ARGV[a + 14] == '1' then
    redis.call('SET', KEYS[k + 9], ARGV[a + 15])
  end
  local id
  if ARGV[a + 16] == '' then
    id = redis.call('XADD', KEYS[k + 2], '*', 'entry', ARGV[a + 4], 'at', now)
  else
    id = redis.call('XADD', KEYS[k + 2], '*', 'entry', ARGV[a + 4], 'at', now, 'signature', ARGV[a + 16])
  end
  redis.call(
    'HSET',
    KEYS[k + 7],
    'entries',
    text(all_entries + 1),
    'bytes',
    text(all_bytes + size),
    ARGV[a + 1],
    text(bytes + size)
  )
  redis.call('ZADD', KEYS[k + 3], 'NX', now, ARGV[a + 1])
  note_reply(k, a)
  redis.call('SET', KEYS[k + 1], naming(ARGV[a + 5], id), 'EX', ARGV[a + 6])
  if letter then
    redis.call('HDEL', KEYS[k + 6], ARGV[a + 2])
  end
  enqueued = enqueued + 1
  local wake = 0
  -- New backups must not shorten a tenant's wait after a fault.
  if
    redis.call('EXISTS', KEYS[k + 8]) == 0
    and redis.call('SET', KEYS[k + 4], now, 'NX', 'PX', ARGV[a + 7])
  then
    wake = tonumber(now)
  end
  return {'accepted', wake, 0, 0}
end

local answers = {}
for i = 0, (#KEYS - 2) / KEYS_EACH - 1 do
  answers[i + 1] = accept(i * KEYS_EACH, i * ARGV_EACH)
end
if enqueued > 0 then
  redis.call('HSET', KEYS[#KEYS], 'enqueued', text(number(redis.call('HGET', KEYS[#KEYS], 'enqueued')) + enqueued))
end
return answers
