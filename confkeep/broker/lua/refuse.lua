-- Set a refused message aside, tell its sender, and then acknowledge it.
--
-- `sum` in an entry is the number of bytes that were ever set aside, up to and with this one. The bytes that
-- are kept follow from the first and the last entry, so no counter can go wrong.
--
-- KEYS  1 refused  confkeep:refused           stream  what was set aside, oldest first
--       2 totals   confkeep:totals            hash
--       3 record   celery-task-meta-<id>      string  the result of the message's id
--       4 unacked  unacked                    hash    kombu's: delivery tag -> a delivered message
--       5 index    unacked_index              zset
-- ARGV  the first lines name them:
--       most, most_bytes   most messages, and most of their bytes, to keep
--       bytes      that are kept of this one
--       result     of the message's id, or '' if it cannot have one
--       result_s   the result's life in seconds
--       is_unacked   '1' if the message is in `unacked`
--       tag        its delivery tag there
--       then fields and values of its entry in the stream, without `sum`
--
-- Returns the id of its entry.

-- requires own_types
-- requires numbers
-- requires entry_at

local refused, totals, record, unacked, unacked_index = unpack(KEYS)
local most, most_bytes, bytes, result, result_s, is_unacked, tag = unpack(ARGV)
local fields = {unpack(ARGV, 8)}
expect_all({'stream', 'hash'}, KEYS)
if is_exhausted(refused) then
  redis.call('DEL', refused)
end

local function field(entry, name)
  return number(field_of(entry[2], name))
end

local last = redis.call('XREVRANGE', refused, '+', '-', 'COUNT', 1)[1]
local sum = tonumber(bytes) + (last and field(last, 'sum') or 0)
local id = redis.call('XADD', refused, 'MAXLEN', most, '*', 'sum', string.format('%.0f', sum), unpack(fields))
while true do
  local first = redis.call('XRANGE', refused, '-', '+', 'COUNT', 1)[1]
  if first[1] == id or sum - field(first, 'sum') + field(first, 'kept') <= tonumber(most_bytes) then
    break
  end
  redis.call('XDEL', refused, first[1])
end
redis.call('HSET', totals, 'refused', text(number(redis.call('HGET', totals, 'refused')) + 1))
-- Tell its waiters; an existing record belongs to another message.
if result ~= '' and redis.call('SET', record, result, 'NX', 'EX', result_s) then
  redis.call('PUBLISH', record, result)
end
if is_unacked == '1' then
  redis.pcall('ZREM', unacked_index, tag)
  redis.pcall('HDEL', unacked, tag)
end
return id
