-- Put a value under a field of a hash, also where somebody wrote something else under its key.
--
-- KEYS  1 hash
-- ARGV  1 field  2 value

-- requires own_types

expect('hash', KEYS[1])
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
