-- The role of who shows an access token, as it is now; no row when its login has ended, or any other with it.
--
--   user_id        bigint   whom the token speaks for
--   session_id     bigint   the login that it names
--   token_version  integer  the version that it names
--
-- Locks: none.
-- psql -v user_id=1 -v session_id=1 -v token_version=1 -f sql/queries/sessions/get_caller.sql
SELECT u.role
FROM sessions AS s
INNER JOIN users AS u ON s.user_id = u.id
WHERE
    s.id = :'session_id'::bigint
    AND s.user_id = :'user_id'::bigint
    AND s.ended_at IS NULL
    AND s.expires_at > now()
    AND u.active
    AND u.token_version = :'token_version'::integer;
