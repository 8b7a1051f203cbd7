-- Adds session_uuid to sessions: a random value that tells a login from another one with the same number, after data was lost.
--
-- The default comes after the column: with it, every row would be written anew.
--
-- Locks: ACCESS EXCLUSIVE on sessions, for milliseconds.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/0011_add_session_uuid.sql
ALTER TABLE sessions
ADD COLUMN session_uuid uuid,
ALTER COLUMN session_uuid SET DEFAULT gen_random_uuid();
COMMENT ON COLUMN sessions.id IS 'The sid claim of access tokens.';
COMMENT ON COLUMN sessions.session_uuid
IS 'Random; the session_uuid claim of access tokens. A database that lost its newest rows gives an id again, but never this.';

INSERT INTO schema_version (version, name, safe) VALUES (11, 'add_session_uuid', true);
