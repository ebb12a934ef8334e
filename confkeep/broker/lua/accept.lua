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
--      10 queue     the queue of the tenant's wake-ups  list    Celery's
-- ARGV  the first line of `accept` names them:
--       record     what stands under the id while the backup waits
--       reply      a further result id that gets the receipt, or ''
--       bytes      its bytes, or '' if they are elsewhere, as `has_bytes` says
--       signature  or ''
--       wake_up    a message for the queue, up to the ms at which it was sent, and `its_rest`. Both are '' but
--                  for the first backup of each tenant
--
-- Returns {outcome, wake, entries, bytes} for each.
-- outcome  'accepted'
--          'waiting', 'done'   the id was accepted before, with the same digest
--          'conflict'          the id was accepted before, with another digest
--          'garbled'           the value under its id is no record
--          'stuck'             its inbox takes no entry until a worker has looked at it
--          'tenant full', 'all full'   a limit is reached
--          'behind'            this call refused an earlier one of its tenant at a limit: accepted, this one would overtake it for ever
-- wake     the ms of the wake-up that was sent, or 0
-- entries, bytes   what waits already if a limit is reached, else 0

-- requires own_types
-- requires same_backup
-- requires numbers
-- requires clock
-- requires entry_at
-- requires has_entry

local most_room, totals = unpack(KEYS, #KEYS - 1)
local KEYS_EACH, ARGV_EACH = 10, 18
-- Tenants of which this call refused a backup at a limit.
local refused = {}
-- Tenant -> the two parts of its wake-up.
local wake_ups = {}
local enqueued = 0
local room = tonumber(on('string', 'GET', most_room) or math.huge) or math.huge
if room <= 0 then
  room = math.huge
end
local now = text(clock_ms())

-- Set the wake flag unless it is set.
local function claim(wake, flag_ms)
  local set = redis.call('SET', wake, now, 'NX', 'PX', flag_ms)
  return set or (expect('string', wake) and redis.call('SET', wake, now, 'NX', 'PX', flag_ms))
end

-- Add a further result id for the receipt.
local function note_reply(replies, backup, reply)
  if reply == '' or reply == backup then
    return
  end
  local before = on('hash', 'HGET', replies, backup)
  local ids = {}
  for _, id in ipairs(before and object_of(before) or {}) do
    if id == reply then
      return
    end
    ids[#ids + 1] = type(id) == 'string' and id or nil
  end
  ids[#ids + 1] = reply
  redis.call('HSET', replies, backup, cjson.encode(ids))
end

local function accept(keys, arguments)
  local tenant, backup, digest, entry, record, record_s, flag_ms, reply, size, most_entries, most_bytes,
    all_most_entries, all_most_bytes, has_bytes, staged_bytes, signature, wake_up, its_rest = unpack(arguments)
  local result, inbox, waiting, wake, replies, dead, load, backoff, staged, queue = unpack(keys)
  if wake_up ~= '' then
    wake_ups[tenant] = {wake_up, its_rest}
  end
  local before = redis.pcall('GET', result)
  if before then
    local known = type(before) == 'string' and object_of(before)
    if not known then
      return {'garbled', 0, 0, 0}
    end
    if known['accepted'] then
      if known['accepted'] ~= digest then
        return {'conflict', 0, 0, 0}
      end
      if known['status'] == 'SUCCESS' then
        -- An interrupted transaction may have left a letter, which is obsolete.
        on('hash', 'HDEL', dead, backup)
        return {'done', 0, 0, 0}
      end
      -- A dead letter, or a backup without its entry, is accepted again: this call brings its bytes.
      if known['status'] ~= 'FAILURE' and has_entry(known, inbox, backup) then
        on('zset', 'ZADD', waiting, 'NX', now, tenant)
        on('hash', 'HDEL', dead, backup)
        note_reply(replies, backup, reply)
        return {'waiting', 0, 0, 0}
      end
    end
  end

  local letter = on('hash', 'HGET', dead, backup)
  if letter and not is_same(letter, tenant, entry) then
    return {'conflict', 0, 0, 0}
  end
  if refused[tenant] then
    return {'behind', 0, 0, 0}
  end
  size = tonumber(size)
  local held = on('hash', 'HMGET', load, 'entries', 'bytes', tenant)
  local entries, bytes = on('stream', 'XLEN', inbox), count_of(held[3])
  if entries + 1 > tonumber(most_entries) or (entries > 0 and bytes + size > tonumber(most_bytes)) then
    refused[tenant] = true
    return {'tenant full', 0, entries, bytes}
  end
  local all_entries, all_bytes = count_of(held[1]), count_of(held[2])
  local most = tonumber(all_most_bytes)
  if has_bytes == '1' then
    most = math.min(most, room)
  end
  if all_entries + 1 > tonumber(all_most_entries) or (all_entries > 0 and all_bytes + size > most) then
    refused[tenant] = true
    return {'all full', 0, all_entries, all_bytes}
  end

  if has_bytes == '1' then
    redis.call('SET', staged, staged_bytes)
  end
  local signed = signature ~= '' and {'signature', signature} or {}
  local id = redis.pcall('XADD', inbox, '*', 'entry', entry, 'at', now, unpack(signed))
  if type(id) ~= 'string' then
    if not is_exhausted(inbox) then
      error(id['err'])
    end
    if has_bytes == '1' and not letter then
      redis.call('DEL', staged)
    end
    -- The sweep sends a worker, which removes the foreign entry.
    on('zset', 'ZADD', waiting, 'NX', now, tenant)
    return {'stuck', 0, 0, 0}
  end
  redis.call(
    'HSET',
    load,
    'entries',
    text(all_entries + 1),
    'bytes',
    text(all_bytes + size),
    tenant,
    text(bytes + size)
  )
  on('zset', 'ZADD', waiting, 'NX', now, tenant)
  note_reply(replies, backup, reply)
  redis.call('SET', result, naming(record, id), 'EX', record_s)
  if letter then
    redis.call('HDEL', dead, backup)
  end
  enqueued = enqueued + 1
  local sent_ms = 0
  -- New backups must not shorten a tenant's wait after a fault.
  if on('hash', 'HLEN', backoff) == 0 and claim(wake, flag_ms) then
    sent_ms = tonumber(now)
    -- The sweep sends another where the queue is of another type, or a crash kept the flag alone.
    redis.pcall('LPUSH', queue, wake_ups[tenant][1] .. now .. wake_ups[tenant][2])
  end
  return {'accepted', sent_ms, 0, 0}
end

local answers = {}
for i = 0, (#KEYS - 2) / KEYS_EACH - 1 do
  local k, a = KEYS_EACH * i + 1, ARGV_EACH * i + 1
  local keys, arguments = {unpack(KEYS, k, k + KEYS_EACH - 1)}, {unpack(ARGV, a, a + ARGV_EACH - 1)}
  answers[i + 1] = accept(keys, arguments)
end
if enqueued > 0 then
  redis.call('HSET', totals, 'enqueued', text(number(on('hash', 'HGET', totals, 'enqueued')) + enqueued))
end
return answers
