-- Recount what waits for all tenants, and correct the totals.
--
-- KEYS  1 waiting   confkeep:waiting   zset
--       2 load      confkeep:load      hash
--       3 totals    confkeep:totals    hash
-- ARGV  1 prefix of the keys of inboxes, whose lengths it reads
--
-- Returns by how much they were wrong: {entries in `load`, the totals}.
--
-- Totals never go down. A backup that neither waits nor is counted as committed or dead was settled by a
-- transaction of which a crash kept only the beginning: it counts as committed.

-- requires own_types
-- requires numbers

local waiting, load, totals = unpack(KEYS)
local inboxes = ARGV[1]
expect_all({'zset', 'hash', 'hash'}, KEYS)

local entries, bytes = 0, 0
for _, tenant in ipairs(redis.call('ZRANGE', waiting, 0, -1)) do
  -- A key of a foreign type counts as empty.
  local found = redis.pcall('XLEN', inboxes .. tenant)
  entries = entries + (type(found) == 'number' and found or 0)
end
local held = redis.call('HGETALL', load)
for n = 1, #held, 2 do
  if held[n] ~= 'entries' and held[n] ~= 'bytes' then
    bytes = bytes + number(held[n + 1])
  end
end
local sums = redis.call('HMGET', load, 'entries', 'bytes')
if entries == 0 then
  redis.call('DEL', load)
elseif number(sums[1]) ~= entries or number(sums[2]) ~= bytes then
  redis.call('HSET', load, 'entries', text(entries), 'bytes', text(bytes))
end

local counted = redis.call('HMGET', totals, 'enqueued', 'committed', 'dead')
local enqueued, committed = number(counted[1]), number(counted[2])
local off = enqueued - committed - number(counted[3]) - entries
if off > 0 then
  redis.call('HSET', totals, 'committed', text(committed + off))
elseif off < 0 then
  redis.call('HSET', totals, 'enqueued', text(enqueued - off))
end
return {entries - number(sums[1]), off}
