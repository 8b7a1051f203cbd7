-- Puts the goods of an invoice back into stock, also those of products that were taken off sale since.
--
--   invoice_id  bigint  the invoice, locked before by lock_invoice
--
-- Locks: the rows of its products, FOR UPDATE, in id order as a purchase does.
-- psql -v invoice_id=1 -f sql/queries/invoices/return_stock.sql
WITH locked AS (
    SELECT
        p.id,
        d.quantity
    FROM invoice_details AS d
    INNER JOIN products AS p ON d.product_id = p.id
    WHERE d.invoice_id = :'invoice_id'::bigint
    ORDER BY p.id
    FOR UPDATE OF p
)

UPDATE products AS p
SET stock = p.stock + locked.quantity
FROM locked
WHERE p.id = locked.id;
