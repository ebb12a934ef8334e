-- End a worker in order: take its report and its lease away.
--
-- KEYS  1 workers  confkeep:workers          hash    worker name -> its report
--       2 lease    confkeep:sweep:<shards>   string  token of the one worker that sweeps these shards
-- ARGV  the first lines name them

-- requires own_types

local workers, lease = unpack(KEYS)
local name, token = unpack(ARGV)
expect_all({'hash', 'string'}, KEYS)
redis.call('HDEL', workers, name)
if redis.call('GET', lease) == token then
  redis.call('DEL', lease)
end
