-- Delete staged bytes that nothing refers to and that have not been touched for long.
--
-- The caller has checked this already; an enqueue may have come since.
--
-- KEYS  1 staged   confkeep:staged:<tenant>:<backup>   string
--       2 record   celery-task-meta-<backup>           string
--       3 dead     confkeep:dead                       hash
-- ARGV  the first lines name them:
--       idle_s  for how many seconds nobody must have touched them
--
-- Returns 1 if they were deleted, else 0.

local staged, record, dead = unpack(KEYS)
local backup, idle_s = unpack(ARGV)
local idle = redis.call('OBJECT', 'IDLETIME', staged)
if not idle or idle < tonumber(idle_s) or redis.pcall('HEXISTS', dead, backup) ~= 0 then
  return 0
end
local known = redis.pcall('GET', record)
if type(known) == 'table' then
  -- An error: the key is of a foreign type, and the backup may wait.
  return 0
end
if known and (string.find(known, '^{"status": "PENDING"') or string.find(known, '^{"status": "RETRY"')) then
  return 0
end
return redis.call('DEL', staged)
