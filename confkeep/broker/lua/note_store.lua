-- Note the id of a worker's store for its shards, unless another one is noted for one of them.
--
-- KEYS  1 stores  confkeep:stores   hash   shard -> id of the store that its workers commit to
-- ARGV  1 id of the store  2... the shards
--
-- Returns the id of the other store, or ''.

-- requires own_types
-- requires other_store

local stores, store, shards = KEYS[1], ARGV[1], {unpack(ARGV, 2)}
return other_store(stores, store, shards) or ''
