-- Recount what waits for all tenants, and correct the totals.
--
-- KEYS  1 waiting   confkeep:waiting   zset
--       2 load      confkeep:load      hash
--       3 arriving  confkeep:arriving  hash
--       4 totals    confkeep:totals    hash
-- ARGV  1, 2 prefixes of the keys of inboxes and of arrivals, whose lengths it reads
--
-- Returns by how much they were wrong: {entries in `load`, entries in `arriving`, the totals}.
--
-- Totals never go down. A backup that neither waits nor is counted as committed or dead was settled by a
-- transaction of which a crash kept only the beginning: it counts as committed.

-- requires own_types
-- requires numbers

for n, kind in ipairs({'zset', 'hash', 'hash', 'hash'}) do
  expect(kind, KEYS[n])
end

local function length(command, key)
  -- A key of a foreign type counts as empty.
  local found = redis.pcall(command, key)
  return type(found) == 'number' and found or 0
end

-- Correct both sums of a hash; delete the hash if `entries` is 0.
local function correct(key, entries, bytes)
  local held = redis.call('HMGET', key, 'entries', 'bytes')
  if entries == 0 then
    redis.call('DEL', key)
  elseif number(held[1]) ~= entries or number(held[2]) ~= bytes then
    redis.call('HSET', key, 'entries', text(entries), 'bytes', text(bytes))
  end
  return entries - number(held[1])
end

local entries, bytes = 0, 0
for _, tenant in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  entries = entries + length('XLEN', ARGV[1] .. tenant)
end
local held = redis.call('HGETALL', KEYS[2])
for n = 1, #held, 2 do
  if held[n] ~= 'entries' and held[n] ~= 'bytes' then
    bytes = bytes + number(held[n + 1])
  end
end
local off_load = correct(KEYS[2], entries, bytes)

local arrived, arrived_bytes = 0, 0
held = redis.call('HGETALL', KEYS[3])
for n = 1, #held, 2 do
  if held[n] ~= 'entries' and held[n] ~= 'bytes' then
    local waits = length('LLEN', ARGV[2] .. held[n])
    arrived = arrived + waits
    if waits == 0 then
      redis.call('HDEL', KEYS[3], held[n])
    else
      arrived_bytes = arrived_bytes + number(held[n + 1])
    end
  end
end
local off_arriving = correct(KEYS[3], arrived, arrived_bytes)

local counted = redis.call('HMGET', KEYS[4], 'enqueued', 'committed', 'dead')
local enqueued, committed = number(counted[1]), number(counted[2])
local off = enqueued - committed - number(counted[3]) - entries
if off > 0 then
  redis.call('HSET', KEYS[4], 'committed', text(committed + off))
elseif off < 0 then
  redis.call('HSET', KEYS[4], 'enqueued', text(enqueued - off))
end
return {off_load, off_arriving, off}
