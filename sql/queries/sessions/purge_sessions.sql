-- Deletes sessions that expired more than 30 days ago, at most 1,000 per run, only to keep the tables small.
--
-- Parameters: none.
-- Locks: sessions, the rows that it deletes, and skips those that others have locked; refresh_tokens, their rows.
-- psql -f sql/queries/sessions/purge_sessions.sql
DELETE FROM sessions
WHERE id = any(
    array(
        SELECT id FROM sessions
        WHERE expires_at < now() - interval '30 days'
        ORDER BY expires_at
        LIMIT 1000
        FOR UPDATE SKIP LOCKED
    )
);
