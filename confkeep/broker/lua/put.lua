-- Set a field of a hash, after setting aside a value of another type under its key.
--
-- KEYS  1 hash
-- ARGV  1 field  2 value

-- requires own_types

expect('hash', KEYS[1])
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
