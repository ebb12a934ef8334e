-- Write events that no other script writes.
--
-- KEYS  1 events  confkeep:events  stream
-- ARGV  1 most events to keep  2... each event as JSON

-- requires own_types
-- requires events

local events, most_events = KEYS[1], ARGV[1]
expect('stream', events)
for n = 2, #ARGV do
  local event = ARGV[n]
  tell(events, event)
end
trim_events(events, most_events)
return redis.status_reply('OK')
