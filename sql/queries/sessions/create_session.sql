-- Starts a session, if the account is active and its password was not changed meanwhile; otherwise no row.
--
--   user_id   bigint   the account
--   password  text     the hash that was checked, which must still be stored
--   address   text     client address; NULL (empty in psql) if unknown
--   seconds   integer  lifetime of its first refresh token
--
-- session_uuid by way of JSON, because version 8 does not have it: NULL then.
--
-- Locks: users, the row of the account, FOR SHARE. Adds a row to sessions.
-- psql -v user_id=1 -v password='$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA' -v address=192.0.2.7 -v seconds=2592000 -f sql/queries/sessions/create_session.sql
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
)

SELECT account.id, account.role, started.id AS session_id, account.token_version, started.session_uuid
FROM account CROSS JOIN started;
