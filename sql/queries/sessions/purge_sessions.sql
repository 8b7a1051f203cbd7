-- Removes logins that expired more than 30 days ago, at most a thousand. Nothing depends on it but the size of the tables.
--
-- Parameters: none.
-- Locks: the rows it removes; leaves alone what others are working on.
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
