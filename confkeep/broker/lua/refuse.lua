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
-- ARGV  1 most messages to keep  2 most bytes to keep  3 bytes that are kept of this one
--       4 the record, or '' if it cannot have one  5 life of the record in seconds
--       6 '1' if the message is in `unacked`  7 its delivery tag there
--       8... fields and values of its entry in the stream, without `sum`
--
-- Returns the id of its entry.

-- requires own_types
-- requires numbers

expect('stream', KEYS[1])
expect('hash', KEYS[2])
if is_exhausted(KEYS[1]) then
  redis.call('DEL', KEYS[1])
end

local function field(entry, name)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == name then
      return number(entry[2][i + 1])
    end
  end
  return 0
end

local bytes = tonumber(ARGV[3])
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local sum = bytes
if last then
  sum = sum + field(last, 'sum')
end
local fields = {'sum', string.format('%.0f', sum)}
for i = 8, #ARGV do
  fields[#fields + 1] = ARGV[i]
end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[1], '*', unpack(fields))
while true do
  local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  if first[1] == id or sum - field(first, 'sum') + field(first, 'kept') <= tonumber(ARGV[2]) then
    break
  end
  redis.call('XDEL', KEYS[1], first[1])
end
redis.call('HSET', KEYS[2], 'refused', text(number(redis.call('HGET', KEYS[2], 'refused')) + 1))
-- Tell its waiters; an existing record belongs to another message.
if ARGV[4] ~= '' and redis.call('SET', KEYS[3], ARGV[4], 'NX', 'EX', ARGV[5]) then
  redis.call('PUBLISH', KEYS[3], ARGV[4])
end
if ARGV[6] == '1' then
  redis.pcall('ZREM', KEYS[5], ARGV[7])
  redis.pcall('HDEL', KEYS[4], ARGV[7])
end
return id
