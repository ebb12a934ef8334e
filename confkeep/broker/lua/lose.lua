-- Make a dead letter of a backup that waits, as its record says, and has lost its entry.
--
-- The caller has checked this already; the backup may have been accepted again since.
--
-- KEYS  1 record  celery-task-meta-<backup>  string
--       2 inbox   confkeep:inbox:<tenant>    stream
--       3 dead    confkeep:dead              hash
--       4 totals  confkeep:totals            hash
--       5 events  confkeep:events            stream
-- ARGV  1 backup_id  2 the record as it was read  3 the dead letter  4 the new record, a FAILURE
--       5 the new record's life in seconds  6 most events to keep  7 the event, as JSON
--
-- Returns 1 if it is a dead letter now, else 0.

-- requires own_types
-- requires numbers
-- requires entry_at
-- requires has_entry
-- requires events

for n, kind in ipairs({'stream', 'hash', 'hash', 'stream'}) do
  expect(kind, KEYS[n + 1])
end
if redis.pcall('GET', KEYS[1]) ~= ARGV[2] or has_entry(cjson.decode(ARGV[2]), KEYS[2], ARGV[1]) then
  return 0
end
tell(KEYS[5], ARGV[7])
-- An existing letter says more.
local new = redis.call('HSETNX', KEYS[3], ARGV[1], ARGV[3])
redis.call('SET', KEYS[1], ARGV[4], 'EX', ARGV[5])
redis.call('PUBLISH', KEYS[1], ARGV[4])
if new == 1 then
  redis.call('HSET', KEYS[4], 'dead', text(number(redis.call('HGET', KEYS[4], 'dead')) + 1))
end
trim_events(KEYS[5], ARGV[6])
return 1
