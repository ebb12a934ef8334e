-- Set a field of a hash, after setting aside a value of another type under its key.
--
-- KEYS  1 hash
-- ARGV  the first line names them

-- requires own_types

local hash, field, value = KEYS[1], unpack(ARGV)
expect('hash', hash)
return redis.call('HSET', hash, field, value)
