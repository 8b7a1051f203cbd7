-- Ends the session of a refresh token that is used again after more than 10 seconds, as it may be stolen; returns the account, or no row.
--
--   token_hash  bytea  SHA-256 of the token
--
-- Within the 10 seconds, the client probably lost the first response.
--
-- Locks: sessions, the row.
-- psql -v token_hash='\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' -f sql/queries/sessions/end_reused_session.sql
UPDATE sessions AS s
SET ended_at = now(), end_reason = 'reuse'
FROM refresh_tokens AS t
WHERE
    t.token_hash = :'token_hash'::bytea
    AND t.used_at < now() - interval '10 seconds'
    AND s.id = t.session_id
    AND s.ended_at IS NULL
RETURNING s.user_id;
