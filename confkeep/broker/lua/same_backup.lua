-- Whether a dead letter and an entry are of the same backup; part of other scripts.
--
-- Letters outlive the records that would otherwise say so.

local function is_same(letter, tenant, entry)
  local known, theirs = pcall(cjson.decode, letter)
  if not known or type(theirs) ~= 'table' or type(theirs['entry']) ~= 'string' or theirs['tenant_id'] ~= tenant then
    return false
  end
  -- Nothing but its id is known of a backup that lost its entry; any that comes under it is welcome.
  if theirs['entry'] == '' then
    return true
  end
  -- As text: a message may hold what cjson refuses. No quote in it stands without a backslash.
  for _, name in ipairs({'device_id', 'export_sha256', 'binary_sha256'}) do
    local value = string.match(entry, '"' .. name .. '":("?[%w-]*"?)')
    if not value or string.match(theirs['entry'], '"' .. name .. '":("?[%w-]*"?)') ~= value then
      return false
    end
  end
  return true
end
