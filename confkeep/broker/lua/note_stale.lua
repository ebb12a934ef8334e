-- Note which devices of a tenant are stale, and tell of each change once.
--
-- KEYS  1 stale   confkeep:stale:<tenant>  hash    device -> seconds since 1970 of its newest backup
--       2 events  confkeep:events          stream
-- ARGV  1 most events to keep
--       2... for each device: its id, the seconds if it is stale, or '', the event as JSON, or ''
--            for a device that is not there any more

-- requires own_types
-- requires events

local stale, events = unpack(KEYS)
local most_events = ARGV[1]
expect_all({'hash', 'stream'}, KEYS)
for n = 2, #ARGV, 3 do
  local device, seconds, event = unpack(ARGV, n, n + 2)
  -- As text: false if it is not stale.
  if redis.call('HGET', stale, device) ~= (seconds ~= '' and seconds) then
    if event ~= '' then
      tell(events, event)
    end
    if seconds ~= '' then
      redis.call('HSET', stale, device, seconds)
    else
      redis.call('HDEL', stale, device)
    end
  end
end
trim_events(events, most_events)
return redis.status_reply('OK')
