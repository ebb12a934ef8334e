-- Recount what waits for one tenant, and mark it for the sweep.
--
-- KEYS  1 inbox     confkeep:inbox:<tenant>     stream
--       2 waiting   confkeep:waiting            zset
--       3 load      confkeep:load               hash
--       4...        keys that a tenant has only while something waits for it; deleted if nothing waits
-- ARGV  1 tenant  2 most entries whose sizes are added up: for a longer inbox the count of bytes stays
--
-- Writes only what is wrong.

-- requires own_types
-- requires numbers
-- requires entry_at

for n, kind in ipairs({'stream', 'zset', 'hash'}) do
  expect(kind, KEYS[n])
end

local entries = redis.call('XLEN', KEYS[1])
local held = redis.call('HMGET', KEYS[3], 'bytes', ARGV[1])
local mine = number(held[2])
local bytes = mine
if entries == 0 then
  bytes = 0
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[3], ARGV[1])
  redis.call('DEL', unpack(KEYS, 4))
else
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  redis.call('ZADD', KEYS[2], 'NX', string.match(first[1], '^%d+'), ARGV[1])
  if entries <= tonumber(ARGV[2]) then
    bytes = 0
    for _, row in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do
      local entry = field_of(row[2], 'entry') or ''
      for _, name in ipairs({'export_bytes', 'binary_bytes'}) do
        bytes = bytes + number(string.match(entry, '"' .. name .. '": ?(%d+)'))
      end
    end
    if not held[2] or bytes ~= mine then
      redis.call('HSET', KEYS[3], ARGV[1], text(bytes))
    end
  end
end
if bytes ~= mine then
  redis.call('HSET', KEYS[3], 'bytes', text(number(held[1]) - mine + bytes))
end

return redis.status_reply('OK')
