-- The stored response to the first request with an idempotency key, if it is at most 24 hours old.
--
--   user_id  bigint  owner of the key
--   route    text    method and route, such as POST /purchase_product
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
