-- Locks an invoice and returns its status and the statuses that may follow.
--
--   invoice_id  bigint  the invoice
--
-- One step of a change of status or a credit note: run it in one transaction with the other steps.
--
-- Locks: invoices, the row, FOR UPDATE.
-- psql -v invoice_id=1 -f sql/queries/invoices/lock_invoice.sql
SELECT
    i.status,
    array(
        SELECT t.to_status FROM invoice_transitions AS t
        WHERE t.from_status = i.status
        ORDER BY t.to_status
    ) AS allowed
FROM invoices AS i
WHERE i.id = :'invoice_id'::bigint
FOR UPDATE OF i;
