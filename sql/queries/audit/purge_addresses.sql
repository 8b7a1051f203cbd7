-- Deletes client addresses older than 90 days from the audit log, at most 1,000 per run; the entries stay.
--
-- Parameters: none.
-- Locks: audit_addresses, the rows that it deletes.
-- psql -f sql/queries/audit/purge_addresses.sql
DELETE FROM audit_addresses
WHERE audit_id = any(
    array(
        SELECT audit_id FROM audit_addresses
        WHERE created_at < now() - interval '90 days'
        ORDER BY created_at
        LIMIT 1000
    )
);
