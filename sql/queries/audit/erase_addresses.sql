-- Deletes the client addresses of a user from the audit log; the entries stay.
--
--   actor_id  bigint  the user
--
-- Locks: audit_addresses, the rows that it deletes.
-- psql -v actor_id=1 -f sql/queries/audit/erase_addresses.sql
DELETE FROM audit_addresses AS a
USING audit_log AS l
WHERE l.actor_id = :'actor_id'::bigint AND a.audit_id = l.id;
