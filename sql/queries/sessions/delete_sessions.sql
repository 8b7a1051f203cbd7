-- Deletes all sessions of an account, with their refresh tokens and addresses.
--
--   user_id  bigint  the account
--
-- Locks: sessions, the rows that it deletes, in id order; refresh_tokens, their rows.
-- psql -v user_id=1 -f sql/queries/sessions/delete_sessions.sql
WITH locked AS (
    SELECT id
    FROM sessions
    WHERE user_id = :'user_id'::bigint
    ORDER BY id
    FOR UPDATE
)

DELETE FROM sessions AS s
USING locked
WHERE s.id = locked.id;
