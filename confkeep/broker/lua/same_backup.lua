-- Whether a dead letter and an entry are of the same backup; part of other scripts.
--
-- The record would say so, but letters outlive records.

local function is_same(letter, tenant, entry)
  local known, theirs = pcall(cjson.decode, letter)
  if not known or type(theirs) ~= 'table' or type(theirs['entry']) ~= 'string' or theirs['tenant_id'] ~= tenant then
    return false
  end
  -- Only the id is known of a backup that lost its entry: any with that id counts as the same.
  if theirs['entry'] == '' then
    return true
  end
  -- As text, since cjson may refuse the entry's message. The pattern cannot match within that message: each
  -- quote in it has a backslash.
  for _, name in ipairs({'device_id', 'export_sha256', 'binary_sha256'}) do
    local value = string.match(entry, '"' .. name .. '":("?[%w-]*"?)')
    if not value or string.match(theirs['entry'], '"' .. name .. '":("?[%w-]*"?)') ~= value then
      return false
    end
  end
  return true
end
