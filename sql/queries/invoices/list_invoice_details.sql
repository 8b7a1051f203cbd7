-- The lines of an invoice, in product order.
--
--   invoice_id  bigint  the invoice
--
-- Locks: none.
-- psql -v invoice_id=1 -f sql/queries/invoices/list_invoice_details.sql
SELECT product_id, name, unit_price, quantity, line_total, credited, restocked
FROM invoice_details
WHERE invoice_id = :'invoice_id'::bigint
ORDER BY product_id;
