-- The current role of the user of an access token; no row if its session, or all sessions of the user, have ended.
--
--   user_id        bigint   claim sub of the token
--   session_id     bigint   claim sid of the token
--   token_version  integer  claim token_version of the token
--   session_uuid   text     claim session_uuid of the token; NULL (empty in psql) if it has none: an older release issued it
--
-- session_uuid by way of JSON, because version 8 does not have it.
--
-- Locks: none.
-- psql -v user_id=1 -v session_id=1 -v token_version=1 -v session_uuid= -f sql/queries/sessions/get_caller.sql
SELECT u.role
FROM sessions AS s
INNER JOIN users AS u ON s.user_id = u.id
WHERE
    s.id = :'session_id'::bigint
    AND s.user_id = :'user_id'::bigint
    AND s.ended_at IS NULL
    AND s.expires_at > now()
    AND u.active
    AND u.token_version = :'token_version'::integer
    AND (nullif(:'session_uuid'::text, '') IS NULL OR to_jsonb(s) ->> 'session_uuid' = :'session_uuid'::text);
