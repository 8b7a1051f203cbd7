-- Changes the status of an invoice, unless its status is no longer from_status; payment assigns its number.
--
--   invoice_id   bigint  the invoice
--   from_status  text    status that it must have
--   to_status    text    new status
--
-- One step of a change of status: run it in one transaction with the other steps.
--
-- Locks: invoices, the row; on payment number_series, the row of the year until the transaction ends, so run it late.
-- psql -v invoice_id=1 -v from_status=pending -v to_status=paid -f sql/queries/invoices/update_status.sql
UPDATE invoices
SET status = :'to_status'::text
WHERE id = :'invoice_id'::bigint AND status = :'from_status'::text;
