-- One invoice, without its lines.
--
--   invoice_id  bigint  the invoice
--
-- Locks: none.
-- psql -v invoice_id=1 -f sql/queries/invoices/get_invoice.sql
SELECT
    id,
    number,
    user_id,
    status,
    total,
    (SELECT shop.currency FROM shop) AS currency,
    created_at
FROM invoices
WHERE id = :'invoice_id'::bigint;
