-- Set keys of a foreign type aside, each whole, for a person to look at.
--
-- KEYS  any of confkeep's
-- ARGV  the type of each; 'expiring' for a string that must expire
--
-- Returns the keys that were set aside.

-- requires own_types

local MOST_LIFE_MS = 86400000
local odd = {}
for n, key in ipairs(KEYS) do
  local kind = ARGV[n]
  if kind == 'expiring' then
    -- confkeep sets it with its expiry, of an hour at most, in one step. One without would stay for ever; one that a
    -- crash left with the expiry of what is set aside, for a month.
    local life_ms = redis.call('PTTL', key)
    kind = (life_ms == -1 or life_ms > MOST_LIFE_MS) and 'none of ours' or 'string'
  end
  local found = type_of(key)
  if found ~= kind and found ~= 'none' then
    expect(kind, key)
    odd[#odd + 1] = key
  end
end
return odd
