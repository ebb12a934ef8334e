-- Write events to their stream; part of other scripts. Needs own_types.
--
-- An event is written before what it tells of: a script that is done again after a crash then writes the
-- same event again, and none is missing.

-- The id of an event of a tenant's wait, the same whenever it is written: a UUID of version 8 (RFC 9562) from
-- the ms at which the wait began, the tenant's last 18 digits, and one digit for the type.
local function id_of_wait(kind, tenant, since)
  local digits = string.sub(string.gsub(tenant, '-', ''), -18)
  local began = string.sub(string.format('%012x', tonumber(since)), -12)
  return table.concat({
    string.sub(began, 1, 8),
    string.sub(began, 9, 12),
    '8' .. string.sub(digits, 1, 3),
    (kind == 'tenant.stalled' and '8' or '9') .. string.sub(digits, 4, 6),
    string.sub(digits, 7, 18),
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
  local id = id_of_wait(kind, tenant, since)
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
