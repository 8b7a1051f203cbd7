-- The idempotency keys of an account that are still stored, oldest first.
--
--   user_id  bigint  the account
--
-- Locks: none.
-- psql -v user_id=1 -f sql/queries/idempotency/list_keys.sql
SELECT route, key, status, location, created_at
FROM idempotency_keys
WHERE user_id = :'user_id'::bigint
ORDER BY created_at;
