-- The answer that was given to the first request with a key, within the last 24 hours.
--
--   user_id  bigint  who asks
--   route    text    method and route
--   key      text    the key
--
-- Locks: none.
-- psql -v user_id=1 -v route='POST /purchase_product' -v key=k1 -f sql/queries/idempotency/get_answer.sql
SELECT fingerprint, status, location, body
FROM idempotency_keys
WHERE
    user_id = :'user_id'::bigint
    AND route = :'route'::text
    AND key = :'key'::text
    AND created_at >= now() - interval '24 hours';
