-- One invoice, without its lines.
--
--   invoice_id  bigint  the invoice
--
-- Locks: none.
-- psql -v invoice_id=1 -f sql/queries/invoices/get_invoice.sql
\ir _columns.sql
SELECT :invoice_columns
FROM invoices
WHERE id = :'invoice_id'::bigint;
