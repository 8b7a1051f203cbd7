-- Ends the session of a refresh token, used or unused, and returns its account, also if it had ended before; no row if the token is unknown.
--
--   token_hash    bytea   SHA-256 of the token
--   session_id    bigint  the session that the token names; NULL (empty in psql) if it names none
--   session_uuid  text    its session_uuid; NULL (empty in psql) if the token names none
--
-- A token that was used long ago is no longer stored, but names its session. session_uuid by way of JSON, because version 8 does not have it.
--
-- Locks: sessions, the row.
-- psql -v token_hash='\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' -v session_id= -v session_uuid= -f sql/queries/sessions/end_session.sql
WITH login AS (
    SELECT s.id, s.user_id
    FROM refresh_tokens AS t
    INNER JOIN sessions AS s ON t.session_id = s.id
    WHERE t.token_hash = :'token_hash'::bytea
    UNION
    SELECT s.id, s.user_id
    FROM sessions AS s
    WHERE s.id = nullif(:'session_id'::text, '')::bigint AND to_jsonb(s) ->> 'session_uuid' = :'session_uuid'::text
),

ended AS (
    UPDATE sessions AS s
    SET ended_at = now(), end_reason = 'logout'
    FROM login
    WHERE s.id = login.id AND s.ended_at IS NULL
)

SELECT user_id FROM login;
