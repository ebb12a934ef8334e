-- What stands in an inbox, by its place; part of other scripts.

local function field_of(fields, name)
  for n = 1, #fields, 2 do
    if fields[n] == name then
      return fields[n + 1]
    end
  end
  return nil
end

-- The text of the entry at that stream id; '' when it has none, nil when nothing is there.
local function entry_at(inbox, id)
  -- An error, which a place that is none gives, has no first row.
  local row = redis.pcall('XRANGE', inbox, id, id)[1]
  return row and (field_of(row[2], 'entry') or '')
end
