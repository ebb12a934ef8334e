-- End a worker in order: take its report and its lease away.
--
-- KEYS  1 workers  confkeep:workers          hash    worker name -> its report
--       2 lease    confkeep:sweep:<shards>   string  token of the one worker that sweeps these shards
-- ARGV  1 the worker's name  2 its token

-- requires own_types

local name, token = ARGV[1], ARGV[2]
expect('hash', KEYS[1])
expect('string', KEYS[2])
redis.call('HDEL', KEYS[1], name)
if redis.call('GET', KEYS[2]) == token then
  redis.call('DEL', KEYS[2])
end
