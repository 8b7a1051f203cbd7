-- Deletes all sessions of an account, with their refresh tokens and addresses.
--
--   user_id  bigint  the account
--
-- Locks: sessions, the rows that it deletes; refresh_tokens, their rows.
-- psql -v user_id=1 -f sql/queries/sessions/delete_sessions.sql
DELETE FROM sessions
WHERE user_id = :'user_id'::bigint;
