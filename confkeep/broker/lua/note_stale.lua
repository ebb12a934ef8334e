-- Note which devices of a tenant are stale, and tell of each change once.
--
-- KEYS  1 stale   confkeep:stale:<tenant>  hash    device -> seconds since 1970 of its newest backup
--       2 events  confkeep:events          stream
-- ARGV  1 most events to keep
--       2... for each device: its id, the seconds if it is stale, or '', the event as JSON, or ''
--            for a device that is not there any more

-- requires own_types
-- requires events

expect('hash', KEYS[1])
expect('stream', KEYS[2])
for a = 2, #ARGV, 3 do
  local known = redis.call('HGET', KEYS[1], ARGV[a])
  -- As text: false if it is not stale.
  if known ~= (ARGV[a + 1] ~= '' and ARGV[a + 1]) then
    if ARGV[a + 2] ~= '' then
      tell(KEYS[2], ARGV[a + 2])
    end
    if ARGV[a + 1] ~= '' then
      redis.call('HSET', KEYS[1], ARGV[a], ARGV[a + 1])
    else
      redis.call('HDEL', KEYS[1], ARGV[a])
    end
  end
end
trim_events(KEYS[2], ARGV[1])
return redis.status_reply('OK')
