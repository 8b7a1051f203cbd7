-- The session of a refresh token, used or unused; no row if the token is unknown.
--
--   token_hash  bytea  SHA-256 of the token
--
-- session_uuid by way of JSON, because version 8 does not have it: NULL then.
--
-- Locks: none.
-- psql -v token_hash='\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' -f sql/queries/sessions/get_login.sql
SELECT s.id AS session_id, to_jsonb(s) ->> 'session_uuid' AS session_uuid
FROM refresh_tokens AS t
INNER JOIN sessions AS s ON t.session_id = s.id
WHERE t.token_hash = :'token_hash'::bytea;
