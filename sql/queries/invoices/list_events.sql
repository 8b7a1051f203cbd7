-- The changes of status of these invoices, oldest first.
--
--   invoice_ids  bigint[]  the invoices
--
-- Locks: none.
-- psql -v invoice_ids='{1}' -f sql/queries/invoices/list_events.sql
SELECT invoice_id, from_status, to_status, actor_id, restocked, reason, created_at
FROM invoice_events
WHERE invoice_id = any(:'invoice_ids'::bigint[])
ORDER BY id;
