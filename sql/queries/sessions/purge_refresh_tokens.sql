-- Removes refresh tokens that were used more than 30 days ago, at most a thousand: shown again, they are as unknown as any other text.
--
-- Parameters: none.
-- Locks: the rows it removes; leaves alone what others are working on.
-- psql -f sql/queries/sessions/purge_refresh_tokens.sql
DELETE FROM refresh_tokens
WHERE token_hash = any(
    array(
        SELECT token_hash FROM refresh_tokens
        WHERE used_at < now() - interval '30 days'
        ORDER BY used_at
        LIMIT 1000
        FOR UPDATE SKIP LOCKED
    )
);
