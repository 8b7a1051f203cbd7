-- Deletes refresh tokens that were used more than 30 days ago, at most 1,000 per run; after that they are unknown tokens.
--
-- Parameters: none.
-- Locks: refresh_tokens, the rows that it deletes; it skips those that others have locked.
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
