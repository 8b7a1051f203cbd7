-- Locks an account that is to be erased, and waits for its running transactions; returns the id, or no row.
--
--   user_id  bigint  the account
--
-- One step of an erasure: run it before begin_request, in one transaction with erase_user and the other steps.
--
-- Locks: users, the row of the account, FOR UPDATE, which also keeps out new rows that refer to it.
-- psql -v user_id=1 -f sql/queries/users/lock_user.sql
SELECT id
FROM users
WHERE id = :'user_id'::bigint
FOR UPDATE;
