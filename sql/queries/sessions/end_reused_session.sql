-- Ends the login of a refresh token that was used more than 10 seconds ago and is shown again: somebody else may have it.
--
--   token_hash  bytea  SHA-256 of the token that is shown
--
-- Within the 10 seconds it is a client that did not get its answer. The account, or no row.
--
-- Locks: the row of the login.
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
