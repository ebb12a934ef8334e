-- Find which tenants may try again: those that wait after no fault, or have waited long enough.
--
-- KEYS  confkeep:backoff:<tenant>...   hash   tries, since_ms, next_ms, reason
-- ARGV  the first line names them
--
-- Returns 1 for each that may, else 0.

-- requires own_types
-- requires numbers
-- requires clock
-- requires due

local longest_ms, grace_ms = unpack(ARGV)

local found = {}
for n, backoff in ipairs(KEYS) do
  expect('hash', backoff)
  found[n] = is_due(backoff, tonumber(longest_ms), tonumber(grace_ms)) and 1 or 0
end
return found
