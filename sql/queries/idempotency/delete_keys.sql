-- Deletes all idempotency keys of an account, with the stored responses.
--
--   user_id  bigint  the account
--
-- Locks: idempotency_keys, the rows that it deletes.
-- psql -v user_id=1 -f sql/queries/idempotency/delete_keys.sql
DELETE FROM idempotency_keys
WHERE user_id = :'user_id'::bigint;
