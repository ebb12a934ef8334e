-- Set the results of waiting backups to RETRY, with the fault for which their tenant waits.
--
-- KEYS  celery-task-meta-<backup>...   string   the records
-- ARGV  the first line names them:
--       retry     the RETRY part of a record: '"status": "RETRY", "result": {...}'
--       record_s  life of the records in seconds, counted from now: what waits must not be forgotten
--
-- A record that has its result by now stays. confkeep writes the JSON itself, so a waiting record begins with
-- '{"status": "PENDING", "result": null,' or with an earlier RETRY.

local retry, record_s = unpack(ARGV)
for _, key in ipairs(KEYS) do
  local record = redis.pcall('GET', key)
  if type(record) == 'string' then
    local rest = string.match(record, '^{"status": "PENDING", "result": null(,.*)$')
    if not rest and string.sub(record, 1, 18) == '{"status": "RETRY"' then
      rest = string.match(record, '(, "traceback": .*)$')
    end
    if rest then
      redis.call('SET', key, '{' .. retry .. rest, 'EX', record_s)
    end
  end
end
return redis.status_reply('OK')
