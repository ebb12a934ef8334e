-- Let a tenant's next try come at once, and the count of its tries begin anew.
--
-- KEYS  1 backoff  confkeep:backoff:<tenant>  hash  tries, since_ms, next_ms, reason
--
-- Since when and why it waits stays: it is told when it is over. A tenant that does not wait stays so.

-- requires own_types

expect('hash', KEYS[1])
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('HSET', KEYS[1], 'tries', 0, 'next_ms', 0)
end
