-- Read counters and write them whole, not by increments; part of other scripts.
--
-- A later transaction repeats one of which a crash kept only the beginning. An increment would then count
-- twice; a value that is written twice stays the same.

local LARGEST = 2 ^ 53

-- A counter's value; 0 if it is not a number from 0 to 2^53.
local function number(value)
  local count = tonumber(value or 0) or 0
  return count >= 0 and count <= LARGEST and count or 0
end

local function text(value)
  return string.format('%.0f', math.max(0, math.min(value, LARGEST)))
end
