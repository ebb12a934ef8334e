-- Write events that no other script writes.
--
-- KEYS  1 events  confkeep:events  stream
-- ARGV  1 most events to keep  2... each event as JSON

-- requires own_types
-- requires events

expect('stream', KEYS[1])
for n = 2, #ARGV do
  tell(KEYS[1], ARGV[n])
end
trim_events(KEYS[1], ARGV[1])
return redis.status_reply('OK')
