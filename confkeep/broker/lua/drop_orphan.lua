-- Delete staged bytes that nobody refers to, if they have not been touched for long.
--
-- KEYS  1 staged   confkeep:staged:<tenant>:<backup>   string
--       2 record   celery-task-meta-<backup>           string
--       3 dead     confkeep:dead                       hash
-- ARGV  1 backup_id  2 least seconds untouched
--
-- Returns 1 when they were deleted. Looked at again here: an enqueue may have come meanwhile.

local idle = redis.call('OBJECT', 'IDLETIME', KEYS[1])
if not idle or idle < tonumber(ARGV[2]) or redis.pcall('HEXISTS', KEYS[3], ARGV[1]) ~= 0 then
  return 0
end
local record = redis.pcall('GET', KEYS[2])
if type(record) == 'table' then
  -- No record of ours: nobody knows.
  return 0
end
if record and (string.find(record, '^{"status": "PENDING"') or string.find(record, '^{"status": "RETRY"')) then
  return 0
end
return redis.call('DEL', KEYS[1])
