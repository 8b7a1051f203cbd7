-- Ends the login that a refresh token belongs to, used or not; the account, or no row when there is none or it had ended.
--
--   token_hash  bytea  SHA-256 of the token
--
-- Locks: the row of the login.
-- psql -v token_hash='\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' -f sql/queries/sessions/end_session.sql
UPDATE sessions AS s
SET ended_at = now(), end_reason = 'logout'
FROM refresh_tokens AS t
WHERE t.token_hash = :'token_hash'::bytea AND s.id = t.session_id AND s.ended_at IS NULL
RETURNING s.user_id;
