-- Note the id of a worker's store for its shards, unless another one is noted; part of other scripts.
-- Needs own_types.

-- Returns the id of another store that is noted for one of the shards, or nil.
local function other_store(stores, store, shards)
  local noted = on('hash', 'HMGET', stores, unpack(shards))
  for n, id in ipairs(noted) do
    -- What is no id was written by nobody of ours.
    noted[n] = type(id) == 'string' and #id == 32 and string.match(id, '^%x+$')
    if noted[n] and id ~= store then
      return id
    end
  end
  for n, shard in ipairs(shards) do
    if not noted[n] then
      redis.call('HSET', stores, shard, store)
    end
  end
end
