-- Let only one of several sweeps send a wake-up again.
--
-- KEYS  1 wake   confkeep:wake:<tenant>   string   ms at which its wake-up was sent
-- ARGV  1 what the sweep read there, or ''  2 the new value  3 life in ms
--
-- Returns 1 if the caller is to send it, else 0.

-- requires own_types

expect('string', KEYS[1])
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
