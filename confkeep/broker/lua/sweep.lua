-- Begin a worker's sweep: report the worker, note its store, and take or keep the lease of its shards.
--
-- KEYS  1 workers  confkeep:workers          hash    worker name -> its report
--       2 lease    confkeep:sweep:<shards>   string  token of the one worker that sweeps these shards
--       3 stores   confkeep:stores           hash    shard -> id of the store that its workers commit to
-- ARGV  the first lines name them:
--       report   without `swept_ms`
--       life_ms  of the lease
--       store    its id, or ''
--
-- Returns {ms, whether the worker is to sweep, the id of the store of a shard if it is another one, else ''}.
-- A worker of another store is not to sweep.

-- requires own_types
-- requires clock
-- requires other_store

local workers, lease, stores = unpack(KEYS)
local name, report, token, life_ms, store = unpack(ARGV)
local shards = {unpack(ARGV, 6)}
local now = clock_ms()

local fields = cjson.decode(report)
fields['swept_ms'] = now
on('hash', 'HSET', workers, name, cjson.encode(fields))

local other = store ~= '' and other_store(stores, store, shards)
if other then
  return {now, 0, other}
end

local holder = on('string', 'GET', lease)
local left_ms = holder and holder ~= token and redis.call('PTTL', lease) or -1
if left_ms >= 0 then
  -- The server's clock may have been set back.
  if left_ms > tonumber(life_ms) then
    redis.call('PEXPIRE', lease, life_ms)
  end
  return {now, 0, ''}
end
redis.call('SET', lease, token, 'PX', life_ms)
return {now, 1, ''}
