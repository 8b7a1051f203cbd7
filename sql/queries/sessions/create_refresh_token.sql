-- Adds the first refresh token of a session.
--
--   token_hash  bytea   SHA-256 of the token
--   session_id  bigint  the session
--
-- Locks: sessions, the row, FOR KEY SHARE (foreign key). Adds a row to refresh_tokens.
-- psql -v token_hash='\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' -v session_id=1 -f sql/queries/sessions/create_refresh_token.sql
INSERT INTO refresh_tokens (token_hash, session_id)
VALUES (:'token_hash'::bytea, :'session_id'::bigint);
