-- Write events to their stream; part of other scripts. Needs own_types.
--
-- An event is written before what it tells of: a script that is done again after a crash then writes the
-- same event again, and none is missing.

-- Bytes of the namespace of event ids: confkeep.queue.events has it too.
local EVENT_NAMESPACE = string.gsub('6f2f6d6c5e0b5d6e9f0a3c1f5b7f4a11', '..', function(digits)
  return string.char(tonumber(digits, 16))
end)

-- The id of an event (RFC 9562, a UUID of version 5), of its type and what it is about.
local function event_id(name)
  local hash = redis.sha1hex(EVENT_NAMESPACE .. name)
  local variant = string.format('%x', tonumber(string.sub(hash, 17, 17), 16) % 4 + 8)
  return table.concat({
    string.sub(hash, 1, 8),
    string.sub(hash, 9, 12),
    '5' .. string.sub(hash, 14, 16),
    variant .. string.sub(hash, 18, 20),
    string.sub(hash, 21, 32),
  }, '-')
end

-- Add an event, as JSON text.
local function tell(stream, event)
  local id = redis.pcall('XADD', stream, '*', 'event', event)
  if type(id) ~= 'string' and is_exhausted(stream) then
    redis.call('DEL', stream)
    redis.call('XADD', stream, '*', 'event', event)
  end
end

-- Add an event of a tenant's wait after a fault; `said` is the rest of its data, as JSON.
local function tell_of_wait(stream, kind, tenant, now, since, said)
  local id = event_id(kind .. '\n' .. tenant .. '\n' .. since)
  tell(
    stream,
    '{"id":"' .. id .. '","type":"' .. kind .. '","at":' .. now .. ',"tenant_id":"' .. tenant
      .. '","data":{"since_ms":' .. since .. ',' .. said .. '}}'
  )
end

-- Remove the oldest events, about so many at a time that the server removes them cheaply.
local function trim_events(stream, most)
  redis.call('XTRIM', stream, 'MAXLEN', '~', most)
end
