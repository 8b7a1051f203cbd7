-- Starts a session with its first refresh token, if the account is active and its password was not changed meanwhile; otherwise no row.
--
--   user_id     bigint   the account
--   password    text     the hash that was checked, which must still be stored
--   address     text     client address; NULL (empty in psql) if unknown
--   token_hash  bytea    SHA-256 of the refresh token
--   seconds     integer  lifetime of the refresh token
--
-- session_uuid by way of JSON, because version 8 does not have it: NULL then.
--
-- Locks: users, the row of the account, FOR SHARE. Adds rows to sessions and refresh_tokens.
-- psql -v user_id=1 -v password='$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA' -v address=192.0.2.7 -v token_hash='\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' -v seconds=2592000 -f sql/queries/sessions/create_session.sql
WITH account AS (
    SELECT id, role, token_version
    FROM users
    WHERE id = :'user_id'::bigint AND password = :'password'::text AND active
    FOR SHARE
),

started AS (
    INSERT INTO sessions AS s (user_id, token_version, address, expires_at)
    SELECT
        id,
        token_version,
        nullif(:'address'::text, '')::inet AS address,
        now() + make_interval(secs => :'seconds'::integer) AS expires_at
    FROM account
    RETURNING s.id, to_jsonb(s) ->> 'session_uuid' AS session_uuid
),

token AS (
    INSERT INTO refresh_tokens (token_hash, session_id)
    SELECT :'token_hash'::bytea, id FROM started
)

SELECT account.id, account.role, started.id AS session_id, account.token_version, started.session_uuid
FROM account CROSS JOIN started;
