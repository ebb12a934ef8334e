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

for n, kind in ipairs({'zset', 'hash', 'hash'}) do
  expect(kind, KEYS[n])
end

local entries, bytes = 0, 0
for _, tenant in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  -- A key of a foreign type counts as empty.
  local found = redis.pcall('XLEN', ARGV[1] .. tenant)
  entries = entries + (type(found) == 'number' and found or 0)
end
local held = redis.call('HGETALL', KEYS[2])
for n = 1, #held, 2 do
  if held[n] ~= 'entries' and held[n] ~= 'bytes' then
    bytes = bytes + number(held[n + 1])
  end
end
local sums = redis.call('HMGET', KEYS[2], 'entries', 'bytes')
if entries == 0 then
  redis.call('DEL', KEYS[2])
elseif number(sums[1]) ~= entries or number(sums[2]) ~= bytes then
  redis.call('HSET', KEYS[2], 'entries', text(entries), 'bytes', text(bytes))
end

local counted = redis.call('HMGET', KEYS[3], 'enqueued', 'committed', 'dead')
local enqueued, committed = number(counted[1]), number(counted[2])
local off = enqueued - committed - number(counted[3]) - entries
if off > 0 then
  redis.call('HSET', KEYS[3], 'committed', text(committed + off))
elseif off < 0 then
  redis.call('HSET', KEYS[3], 'enqueued', text(enqueued - off))
end
return {entries - number(sums[1]), off}
