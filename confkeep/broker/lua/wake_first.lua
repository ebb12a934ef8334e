-- Let what waits for a tenant go before other tenants' bulk: note it in the wake flag, and send a wake-up.
--
-- KEYS  1 wake   confkeep:wake:<tenant>     string  as confkeep/queue/wakeups.py says
--       2 queue  backups.shard.<nn>.high    list    the queue that goes first
-- ARGV  the first line names them; a wake-up is its beginning, the ms at which it was sent, and its rest

-- requires own_types
-- requires clock

local flag_ms, beginning, rest = unpack(ARGV)
local wake, queue = unpack(KEYS)
expect('string', wake)
local now = string.format('%.0f', clock_ms())
-- The flag does not tell: its message may be lost. The newest stand in front.
local name = string.match(rest, '"argsrepr": "[%x-]+"')
local sent
local queued = redis.pcall('LRANGE', queue, 0, 99)
for _, message in ipairs(queued) do
  if string.find(message, name, 1, true) then
    sent = string.match(redis.call('GET', wake) or '', '^%d+t?')
  end
end
redis.call('SET', wake, (sent or now) .. 'h' .. now, 'PX', flag_ms)
if not sent then
  -- The sweep sends another where the queue is of another type, or a crash kept the flag alone.
  redis.pcall('LPUSH', queue, beginning .. now .. rest)
end
