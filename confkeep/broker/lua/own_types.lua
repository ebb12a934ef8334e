-- Check the types of confkeep's keys, and the values read from them; part of other scripts.
--
-- What somebody else wrote under such a key must not end a script, least of all half-way through.
--
--   confkeep:odd          hash   key -> its type, and the ms at which it was set aside
--   confkeep:odd:<key>    what stood there, whole; expires after 30 days, as does the hash

local ODD, ODD_LIFE_S, ODD_MOST = 'confkeep:odd', 2592000, 1000
local known_types = {}

local function type_of(key)
  local found = redis.call('TYPE', key)
  return type(found) == 'table' and found['ok'] or found
end

-- Set a key of another type aside for a person to look at. The script then goes on as if it were missing.
-- Returns whether it did.
local function expect(kind, key)
  if known_types[key] then
    return
  end
  known_types[key] = true
  local found = type_of(key)
  if found == kind or found == 'none' then
    return
  end
  local time = redis.call('TIME')
  if type_of(ODD) ~= 'hash' then
    redis.call('DEL', ODD)
  end
  if redis.call('HLEN', ODD) < ODD_MOST then
    redis.call('HSET', ODD, key, found .. ' ' .. time[1] .. '000')
    redis.call('EXPIRE', ODD, ODD_LIFE_S)
  end
  -- Last, and with its expiry: what an interrupted transaction leaves in its place is met again.
  redis.call('EXPIRE', key, ODD_LIFE_S)
  redis.call('RENAME', key, ODD .. ':' .. key)
  return true
end

-- Check the types of several keys, in order; false for one that is not ours to check.
local function expect_all(kinds, names)
  for n, kind in ipairs(kinds) do
    if kind then
      expect(kind, names[n])
    end
  end
end

-- Run a command on a key that nearly always is of its type, which is looked at only if the command fails.
local function on(kind, command, key, ...)
  local answer = redis.pcall(command, key, ...)
  if type(answer) == 'table' and answer['err'] then
    expect(kind, key)
    return redis.call(command, key, ...)
  end
  return answer
end

-- A count of what waits; 0 if it is not a number from 0 to 2^48, the most that a server could hold.
local function count_of(text)
  local count = tonumber(text or 0) or 0
  return count >= 0 and count < 2 ^ 48 and count or 0
end

-- The JSON object in a text, or nil.
local function object_of(text)
  local is_json, value = pcall(cjson.decode, text)
  if is_json and type(value) == 'table' then
    return value
  end
  return nil
end

-- Whether a stream takes no further entry, since its last id is the highest possible.
local function is_exhausted(stream)
  if redis.call('EXISTS', stream) == 0 then
    return false
  end
  local info = redis.call('XINFO', 'STREAM', stream)
  for n = 1, #info, 2 do
    if info[n] == 'last-generated-id' then
      return info[n + 1] == '18446744073709551615-18446744073709551615'
    end
  end
  return false
end
