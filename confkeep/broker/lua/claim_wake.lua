-- Let only one of several sweeps send a wake-up again.
--
-- KEYS  1 wake   confkeep:wake:<tenant>   string   ms at which its wake-up was sent
-- ARGV  the first line names them:
--       read   what the sweep read there, or ''
--       value  the new value
--
-- Returns 1 if the caller is to send it, else 0.

-- requires own_types

local wake, read, value, life_ms = KEYS[1], unpack(ARGV)
expect('string', wake)
if (redis.call('GET', wake) or '') ~= read then
  return 0
end
redis.call('SET', wake, value, 'PX', life_ms)
return 1
