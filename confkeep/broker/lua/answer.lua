-- Store the result of a task, unless a backup's record is there.
--
-- KEYS  1 record  celery-task-meta-<id>  string
-- ARGV  the first line names them:
--       record  the result, or '' to change only the life of the stored one
--       life_s  its life in seconds
--
-- Returns 1, or 0 if a backup's record is there.

-- requires answer_once

local key, record, life_s = KEYS[1], unpack(ARGV)
if record ~= '' then
  return answer_once(key, record, life_s)
end
if guards(key) then
  return 0
end
redis.call('EXPIRE', key, life_s)
return 1
