-- The audit log entries of one user, and those about their account, oldest first; with client addresses of the user that are still stored.
--
--   user_id  bigint  the user
--
-- Locks: none.
-- psql -v user_id=1 -f sql/queries/audit/list_own_entries.sql
SELECT l.id, l.created_at, l.actor_id, l.action, l.subject_id, l.fields, host(a.address) AS address
FROM audit_log AS l
LEFT JOIN audit_addresses AS a ON l.id = a.audit_id AND l.actor_id = :'user_id'::bigint
WHERE l.actor_id = :'user_id'::bigint OR (l.subject_id = :'user_id'::bigint AND l.action LIKE 'user.%')
ORDER BY l.id;
