-- Store the result of a task and wake its waiters, unless a backup's record is there; part of other scripts.
--
-- A backup's record guards its id and holds its receipt: no other answer may replace it.

-- Whether what a key holds is a backup's record.
local function guards(key)
  local found = redis.pcall('GET', key)
  if type(found) ~= 'string' then
    return false
  end
  local read, known = pcall(cjson.decode, found)
  return read and type(known) == 'table' and known['accepted'] and true
end

local function answer_once(key, record, life_s)
  if guards(key) then
    return 0
  end
  redis.call('SET', key, record, 'EX', life_s)
  redis.call('PUBLISH', key, record)
  return 1
end
