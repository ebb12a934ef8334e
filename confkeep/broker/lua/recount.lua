-- Recount what waits for one tenant, and mark it for the sweep.
--
-- KEYS  1 inbox     confkeep:inbox:<tenant>     stream
--       2 waiting   confkeep:waiting            zset
--       3 load      confkeep:load               hash
--       4...        keys that a tenant has only while something waits for it; deleted if nothing waits
-- ARGV  the first lines name them:
--       most_added   most entries whose sizes are added up: for a longer inbox the count of bytes stays
--
-- Writes only what is wrong.

-- requires own_types
-- requires numbers
-- requires entry_at

local inbox, waiting, load = unpack(KEYS)
local while_waiting = {unpack(KEYS, 4)}
local tenant, most_added = unpack(ARGV)
expect_all({'stream', 'zset', 'hash'}, KEYS)

local entries = redis.call('XLEN', inbox)
local held = redis.call('HMGET', load, 'bytes', tenant)
local mine = number(held[2])
local bytes = mine
if entries == 0 then
  bytes = 0
  redis.call('ZREM', waiting, tenant)
  redis.call('HDEL', load, tenant)
  redis.call('DEL', unpack(while_waiting))
else
  local first = redis.call('XRANGE', inbox, '-', '+', 'COUNT', 1)[1]
  redis.call('ZADD', waiting, 'NX', string.match(first[1], '^%d+'), tenant)
  if entries <= tonumber(most_added) then
    bytes = 0
    for _, row in ipairs(redis.call('XRANGE', inbox, '-', '+')) do
      local entry = field_of(row[2], 'entry') or ''
      for _, name in ipairs({'export_bytes', 'binary_bytes'}) do
        bytes = bytes + number(string.match(entry, '"' .. name .. '": ?(%d+)'))
      end
    end
    if not held[2] or bytes ~= mine then
      redis.call('HSET', load, tenant, text(bytes))
    end
  end
end
if bytes ~= mine then
  redis.call('HSET', load, 'bytes', text(number(held[1]) - mine + bytes))
end

return redis.status_reply('OK')
