-- Exchanges a refresh token for the next one of its session; no row if the token was used before or the session has ended.
--
--   token_hash  bytea    SHA-256 of the token
--   new_hash    bytea    SHA-256 of the next token
--   seconds     integer  lifetime of the next token, which ends at the latest 365 days after the login
--
-- Locks: the row of the token, so that of two concurrent requests the second finds it used; the row of the session; the new row.
-- psql -v token_hash='\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' -v new_hash='\xa7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a' -v seconds=2592000 -f sql/queries/sessions/refresh_session.sql
WITH used AS (
    UPDATE refresh_tokens AS t
    SET used_at = now()
    FROM sessions AS s
    INNER JOIN users AS u ON s.user_id = u.id AND s.token_version = u.token_version
    WHERE
        t.token_hash = :'token_hash'::bytea
        AND t.used_at IS NULL
        AND t.session_id = s.id
        AND s.ended_at IS NULL
        AND s.expires_at > now()
        AND u.active
    RETURNING u.id, u.role, s.id AS session_id, u.token_version
),

prolonged AS (
    UPDATE sessions AS s
    SET expires_at = least(now() + make_interval(secs => :'seconds'::integer), s.created_at + interval '365 days')
    FROM used
    WHERE s.id = used.session_id AND s.ended_at IS NULL  -- checked again: it may have ended meanwhile
    RETURNING s.id
),

next_token AS (
    INSERT INTO refresh_tokens (token_hash, session_id)
    SELECT :'new_hash'::bytea, id FROM prolonged
)

SELECT used.id, used.role, used.session_id, used.token_version
FROM used
INNER JOIN prolonged ON used.session_id = prolonged.id;
