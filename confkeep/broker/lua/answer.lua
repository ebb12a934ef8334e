-- Store the result of a task, unless a backup's record is there.
--
-- A backup's record guards its id and holds its receipt: no other answer may replace it.
--
-- KEYS  1 record  celery-task-meta-<id>  string
-- ARGV  1 the result, or '' to change only the life of the stored one  2 its life in seconds
--
-- Returns 1, or 0 if a backup's record is there.

local found = redis.pcall('GET', KEYS[1])
if type(found) == 'string' then
  local read, known = pcall(cjson.decode, found)
  if read and type(known) == 'table' and known['accepted'] then
    return 0
  end
end
if ARGV[1] == '' then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
  redis.call('PUBLISH', KEYS[1], ARGV[1])
end
return 1
