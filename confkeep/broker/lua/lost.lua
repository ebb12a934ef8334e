-- Find the backups that wait, as their records say, and have lost their entries.
--
-- KEYS  celery-task-meta-<id>...   string   results, also those of other tasks
-- ARGV  1 prefix of the inboxes' keys: the records name the tenants
--
-- Returns {key, record, key, record ...}. Records of earlier releases are left out: they do not name their
-- entries.

-- requires entry_at
-- requires has_entry

local inboxes = ARGV[1]
local found = {}
for _, key in ipairs(KEYS) do
  local start = redis.pcall('GETRANGE', key, 0, 19)
  if start == '{"status": "PENDING"' or start == '{"status": "RETRY", ' then
    local text = redis.call('GET', key)
    local good, record = pcall(cjson.decode, text)
    if good and type(record['tenant']) == 'string' and type(record['entry']) == 'string' then
      local looked, there = pcall(has_entry, record, inboxes .. record['tenant'], record['task_id'])
      if looked and not there then
        found[#found + 1] = key
        found[#found + 1] = text
      end
    end
  end
end
return found
