-- Locks an account that is to be changed, while others may go on referring to it; returns the id, or no row.
--
--   user_id  bigint  the account
--
-- One step of a change of an account: run it before begin_request, in one transaction with the other steps.
--
-- Locks: users, the row of the account, FOR NO KEY UPDATE.
-- psql -v user_id=1 -f sql/queries/users/lock_for_change.sql
SELECT id
FROM users
WHERE id = :'user_id'::bigint
FOR NO KEY UPDATE;
