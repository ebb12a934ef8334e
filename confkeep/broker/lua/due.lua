-- Whether a tenant that waits after a fault may try again; part of other scripts. Needs numbers and clock.

local function is_due(backoff, longest_ms, grace_ms)
  local left = number(redis.call('HGET', backoff, 'next_ms')) + grace_ms - clock_ms()
  -- A time further ahead than we ever wait is not ours, and counts as past.
  return left <= 0 or left > longest_ms + grace_ms
end
