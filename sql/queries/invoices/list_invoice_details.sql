-- The lines of these invoices, in product order.
--
--   invoice_ids  bigint[]  the invoices
--
-- Locks: none.
-- psql -v invoice_ids='{1}' -f sql/queries/invoices/list_invoice_details.sql
SELECT invoice_id, product_id, name, unit_price, quantity, line_total, credited, restocked
FROM invoice_details
WHERE invoice_id = any(:'invoice_ids'::bigint[])
ORDER BY invoice_id, product_id;
