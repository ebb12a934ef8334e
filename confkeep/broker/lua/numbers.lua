-- Counters read and written as what they are, not as what they change by; part of other scripts.
--
-- A transaction of which only the beginning was kept is done again by a later one. A difference would
-- then count twice; a value that is written once more is the same value.

local LARGEST = 2 ^ 53

-- A counter's value; 0 where somebody wrote what is none.
local function number(value)
  local count = tonumber(value or 0) or 0
  return count >= 0 and count <= LARGEST and count or 0
end

local function text(value)
  return string.format('%.0f', math.max(0, math.min(value, LARGEST)))
end
