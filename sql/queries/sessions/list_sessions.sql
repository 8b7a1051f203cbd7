-- The sessions of an account that are still stored, oldest first.
--
--   user_id  bigint  the account
--
-- Locks: none.
-- psql -v user_id=1 -f sql/queries/sessions/list_sessions.sql
SELECT
    s.id,
    host(s.address) AS address,
    s.created_at,
    s.expires_at,
    s.ended_at,
    s.end_reason,
    s.ended_at IS NULL AND s.expires_at > now() AND u.active AND s.token_version = u.token_version AS live
FROM sessions AS s
INNER JOIN users AS u ON s.user_id = u.id
WHERE s.user_id = :'user_id'::bigint
ORDER BY s.id;
