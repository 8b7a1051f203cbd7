-- Removes every key of an account, with the answers that were kept.
--
--   user_id  bigint  the account
--
-- Locks: the rows it removes.
-- psql -v user_id=1 -f sql/queries/idempotency/delete_keys.sql
DELETE FROM idempotency_keys
WHERE user_id = :'user_id'::bigint;
