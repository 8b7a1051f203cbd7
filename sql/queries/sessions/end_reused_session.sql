-- Ends the session of a refresh token that is used again after more than 10 seconds, as it may be stolen; returns the account, or no row.
--
--   token_hash    bytea   SHA-256 of the token
--   session_id    bigint  the session that the token names; NULL (empty in psql) if it names none
--   session_uuid  text    its session_uuid; NULL (empty in psql) if the token names none
--
-- A genuine token that is no longer stored was used more than 10 minutes ago; it names its session. session_uuid by way of JSON, because
-- version 8 does not have it.
--
-- Locks: sessions, the row.
-- psql -v token_hash='\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' -v session_id= -v session_uuid= -f sql/queries/sessions/end_reused_session.sql
WITH login AS (
    SELECT session_id, used_at < now() - interval '10 seconds' AS reused
    FROM refresh_tokens
    WHERE token_hash = :'token_hash'::bytea
),

reused AS (
    SELECT session_id FROM login
    WHERE reused
    UNION ALL
    SELECT id FROM sessions AS s
    WHERE
        id = nullif(:'session_id'::text, '')::bigint
        AND to_jsonb(s) ->> 'session_uuid' = :'session_uuid'::text
        AND NOT EXISTS (SELECT FROM login)
)

UPDATE sessions AS s
SET ended_at = now(), end_reason = 'reuse'
FROM reused
WHERE s.id = reused.session_id AND s.ended_at IS NULL
RETURNING s.user_id;
