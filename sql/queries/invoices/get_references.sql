-- The owner and the products of an invoice, which never change. No row when there is no such invoice.
--
--   invoice_id  bigint  the invoice
--
-- Locks: none.
-- psql -v invoice_id=1 -f sql/queries/invoices/get_references.sql
SELECT
    i.id,
    i.user_id,
    array(
        SELECT d.product_id FROM invoice_details AS d
        WHERE d.invoice_id = i.id
        ORDER BY d.product_id
    ) AS product_ids
FROM invoices AS i
WHERE i.id = :'invoice_id'::bigint;
