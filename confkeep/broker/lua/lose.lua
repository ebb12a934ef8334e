-- Make a dead letter of a backup that waits, as its record says, and has lost its entry.
--
-- The caller has checked this already; the backup may have been accepted again since.
--
-- KEYS  1 record  celery-task-meta-<backup>  string
--       2 inbox   confkeep:inbox:<tenant>    stream
--       3 dead    confkeep:dead              hash
--       4 totals  confkeep:totals            hash
-- ARGV  1 backup_id  2 the record as it was read  3 the dead letter  4 the new record, a FAILURE
--       5 the new record's life in seconds
--
-- Returns 1 if it is a dead letter now, else 0.

-- requires own_types
-- requires numbers
-- requires entry_at
-- requires has_entry

for n, kind in ipairs({'stream', 'hash', 'hash'}) do
  expect(kind, KEYS[n + 1])
end
if redis.pcall('GET', KEYS[1]) ~= ARGV[2] or has_entry(cjson.decode(ARGV[2]), KEYS[2], ARGV[1]) then
  return 0
end
-- An existing letter says more.
local new = redis.call('HSETNX', KEYS[3], ARGV[1], ARGV[3])
redis.call('SET', KEYS[1], ARGV[4], 'EX', ARGV[5])
redis.call('PUBLISH', KEYS[1], ARGV[4])
if new == 1 then
  redis.call('HSET', KEYS[4], 'dead', text(number(redis.call('HGET', KEYS[4], 'dead')) + 1))
end
return 1
