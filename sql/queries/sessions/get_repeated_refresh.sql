-- The live session of a refresh token that was used within the last 10 seconds, and whether the token after it is unused; else no row.
--
--   token_hash  bytea  SHA-256 of the token
--   next_hash   bytea  SHA-256 of the token that follows on it
--
-- session_uuid by way of JSON, because version 8 does not have it: NULL then.
--
-- Locks: none.
-- psql -v token_hash='\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' -v next_hash='\xa7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a' -f sql/queries/sessions/get_repeated_refresh.sql
SELECT
    u.id,
    u.role,
    s.id AS session_id,
    u.token_version,
    to_jsonb(s) ->> 'session_uuid' AS session_uuid,
    exists(
        SELECT FROM refresh_tokens AS n
        WHERE n.token_hash = :'next_hash'::bytea AND n.session_id = s.id AND n.used_at IS NULL
    ) AS next_unused
FROM refresh_tokens AS t
INNER JOIN sessions AS s ON t.session_id = s.id
INNER JOIN users AS u ON s.user_id = u.id AND s.token_version = u.token_version
WHERE
    t.token_hash = :'token_hash'::bytea
    AND t.used_at >= now() - interval '10 seconds'
    AND s.ended_at IS NULL
    AND s.expires_at > now()
    AND u.active;
