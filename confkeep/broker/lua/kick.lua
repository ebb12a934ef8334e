-- End a tenant's wait: its next try may come at once, and its tries are counted from 0.
--
-- KEYS  1 backoff  confkeep:backoff:<tenant>  hash  tries, since_ms, next_ms, reason
--
-- Since when and why it waited stays, to be told when the fault is over. A tenant that does not wait stays
-- as it is.

-- requires own_types

local backoff = KEYS[1]
expect('hash', backoff)
if redis.call('EXISTS', backoff) == 1 then
  redis.call('HSET', backoff, 'tries', 0, 'next_ms', 0)
end
