-- Whether a backup that waits, as its record says, has its entry; part of other scripts.
--
-- Needs entry_at. The record names its entry's stream id. Records of earlier releases do not: for them
-- the script reads the whole inbox, once.

local ids_of = {}

local function has_entry(record, inbox, backup)
  if type(record['entry']) == 'string' then
    local entry = entry_at(inbox, record['entry'])
    return entry ~= nil and string.find(entry, backup, 1, true) ~= nil
  end
  if not ids_of[inbox] then
    local ids = {}
    for _, row in ipairs(redis.pcall('XRANGE', inbox, '-', '+')) do
      ids[string.match(field_of(row[2], 'entry') or '', '"backup_id": ?"([^"]*)"') or ''] = true
    end
    ids_of[inbox] = ids
  end
  return ids_of[inbox][backup] == true
end

-- Add the stream id of its entry to the text of a waiting backup's record.
local function naming(record, id)
  return string.sub(record, 1, -2) .. ', "entry": "' .. id .. '"}'
end
