-- Locks an account that is to be erased, and waits for its running transactions; returns the id, or no row.
--
--   user_id  bigint  the account
--
-- One step of an erasure: run it in one transaction with erase_user and the other steps.
--
-- Locks: the row of the account, FOR UPDATE, which also keeps out new rows that reference it.
-- psql -v user_id=1 -f sql/queries/users/lock_user.sql
SELECT id
FROM users
WHERE id = :'user_id'::bigint
FOR UPDATE;
