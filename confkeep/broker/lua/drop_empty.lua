-- Delete the inbox of an erased tenant, if it is still empty.
--
-- KEYS  1 inbox  confkeep:inbox:<tenant>  stream
--
-- Returns 1 if it was deleted, else 0.

local inbox = KEYS[1]
if redis.call('XLEN', inbox) > 0 then
  return 0
end
return redis.call('DEL', inbox)
