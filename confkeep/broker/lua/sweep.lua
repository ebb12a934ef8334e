-- Begin a worker's sweep: report the worker, note its store, and take or keep the lease of its shards.
--
-- KEYS  1 workers  confkeep:workers          hash    worker name -> its report
--       2 lease    confkeep:sweep:<shards>   string  token of the one worker that sweeps these shards
--       3 stores   confkeep:stores           hash    shard -> id of the store that its workers commit to
-- ARGV  1 the worker's name  2 its report without `swept_ms`
--       3 its token  4 life of the lease in ms
--       5 id of its store, or ''  6... its shards
--
-- Returns {ms, whether the worker is to sweep, the id of the store of a shard if it is another one, else ''}.
-- A worker of another store is not to sweep.

-- requires own_types
-- requires other_store

local name, report, token, life_ms, store = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
expect('hash', KEYS[1])
expect('string', KEYS[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local fields = cjson.decode(report)
fields['swept_ms'] = now
redis.call('HSET', KEYS[1], name, cjson.encode(fields))

local other = store ~= '' and other_store(KEYS[3], store, {unpack(ARGV, 6)})
if other then
  return {now, 0, other}
end

local holder = redis.call('GET', KEYS[2])
if holder and holder ~= token and redis.call('PTTL', KEYS[2]) >= 0 then
  -- The server's clock may have been set back.
  if redis.call('PTTL', KEYS[2]) > tonumber(life_ms) then
    redis.call('PEXPIRE', KEYS[2], life_ms)
  end
  return {now, 0, ''}
end
redis.call('SET', KEYS[2], token, 'PX', life_ms)
return {now, 1, ''}
