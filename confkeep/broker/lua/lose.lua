-- Make a dead letter of a backup that waits, as its record says, and has lost its entry.
--
-- The caller has checked this already; the backup may have been accepted again since.
--
-- KEYS  1 record  celery-task-meta-<backup>  string
--       2 inbox   confkeep:inbox:<tenant>    stream
--       3 dead    confkeep:dead              hash
--       4 totals  confkeep:totals            hash
--       5 events  confkeep:events            stream
-- ARGV  the first lines name them:
--       read      the record as it was read
--       failure   the new record
--       record_s  its life in seconds
--       event     as JSON
--
-- Returns 1 if it is a dead letter now, else 0.

-- requires own_types
-- requires numbers
-- requires entry_at
-- requires has_entry
-- requires events

local record, inbox, dead, totals, events = unpack(KEYS)
local backup, read, letter, failure, record_s, most_events, event = unpack(ARGV)
expect_all({false, 'stream', 'hash', 'hash', 'stream'}, KEYS)
if redis.pcall('GET', record) ~= read or has_entry(cjson.decode(read), inbox, backup) then
  return 0
end
tell(events, event)
-- An existing letter says more.
local new = redis.call('HSETNX', dead, backup, letter)
redis.call('SET', record, failure, 'EX', record_s)
redis.call('PUBLISH', record, failure)
if new == 1 then
  redis.call('HSET', totals, 'dead', text(number(redis.call('HGET', totals, 'dead')) + 1))
end
trim_events(events, most_events)
return 1
