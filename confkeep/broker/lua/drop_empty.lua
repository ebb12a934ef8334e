-- Delete the empty inbox of a tenant that is erased.
--
-- KEYS  1 inbox  confkeep:inbox:<tenant>  stream
--
-- Returns 1 when it was deleted: an enqueue may have come meanwhile.

if redis.call('XLEN', KEYS[1]) > 0 then
  return 0
end
return redis.call('DEL', KEYS[1])
