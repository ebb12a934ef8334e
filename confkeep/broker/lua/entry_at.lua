-- Read an inbox's entry by its stream id; part of other scripts.

local function field_of(fields, name)
  for n = 1, #fields, 2 do
    if fields[n] == name then
      return fields[n + 1]
    end
  end
  return nil
end

-- The text of the entry at that stream id; '' if it has no text, nil if there is no entry.
local function entry_at(inbox, id)
  -- A malformed id gives an error, which has no first row.
  local row = redis.pcall('XRANGE', inbox, id, id)[1]
  return row and (field_of(row[2], 'entry') or '')
end
