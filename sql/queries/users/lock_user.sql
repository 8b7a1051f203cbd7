-- Locks an account to be erased, and waits for whatever it is doing at this moment; its id, or no row.
--
--   user_id  bigint  the account
--
-- One step of an erasure: run it between BEGIN and COMMIT with erase_user and the others, or ROLLBACK.
--
-- Locks: the row of the account, FOR UPDATE: also against every row that is to refer to it.
-- psql -v user_id=1 -f sql/queries/users/lock_user.sql
SELECT id
FROM users
WHERE id = :'user_id'::bigint
FOR UPDATE;
