-- Removes every login of an account, with its refresh tokens and addresses.
--
--   user_id  bigint  the account
--
-- Locks: the rows it removes.
-- psql -v user_id=1 -f sql/queries/sessions/delete_sessions.sql
DELETE FROM sessions
WHERE user_id = :'user_id'::bigint;
