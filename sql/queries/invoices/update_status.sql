-- Moves an invoice from one state to another; does nothing when it is no longer in the first. On becoming paid it gets its number.
--
--   invoice_id   bigint  the invoice
--   from_status  text    state it must be in
--   to_status    text    state it enters
--
-- One step of a change of status: run it between BEGIN and COMMIT with the others, or ROLLBACK.
--
-- Locks: the row of the invoice; on becoming paid, the year's row of number_series until the transaction ends: so do it last.
-- psql -v invoice_id=1 -v from_status=pending -v to_status=paid -f sql/queries/invoices/update_status.sql
UPDATE invoices
SET status = :'to_status'::text
WHERE id = :'invoice_id'::bigint AND status = :'from_status'::text;
