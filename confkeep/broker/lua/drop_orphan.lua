-- Delete staged bytes that nothing refers to and that have not been touched for long.
--
-- The caller has checked this already; an enqueue may have come since.
--
-- KEYS  1 staged   confkeep:staged:<tenant>:<backup>   string
--       2 record   celery-task-meta-<backup>           string
--       3 dead     confkeep:dead                       hash
-- ARGV  1 backup_id  2 for how many seconds nobody must have touched them
--
-- Returns 1 if they were deleted, else 0.

local idle = redis.call('OBJECT', 'IDLETIME', KEYS[1])
if not idle or idle < tonumber(ARGV[2]) or redis.pcall('HEXISTS', KEYS[3], ARGV[1]) ~= 0 then
  return 0
end
local record = redis.pcall('GET', KEYS[2])
if type(record) == 'table' then
  -- An error: the key is of a foreign type, and the backup may wait.
  return 0
end
if record and (string.find(record, '^{"status": "PENDING"') or string.find(record, '^{"status": "RETRY"')) then
  return 0
end
return redis.call('DEL', KEYS[1])
