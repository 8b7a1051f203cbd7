-- The changes of an invoice's status, oldest first.
--
--   invoice_id  bigint  the invoice
--
-- Locks: none.
-- psql -v invoice_id=1 -f sql/queries/invoices/list_events.sql
SELECT from_status, to_status, actor_id, restocked, reason, created_at
FROM invoice_events
WHERE invoice_id = :'invoice_id'::bigint
ORDER BY id;
