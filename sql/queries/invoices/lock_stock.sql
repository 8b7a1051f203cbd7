-- Locks the products of an invoice whose goods come back, on sale or not, and tells what is in stock.
--
--   invoice_id  bigint  the invoice, locked before by lock_invoice
--
-- One step of a cancellation or a credit note: run it between BEGIN and COMMIT with the others, or ROLLBACK.
--
-- Locks: the rows of its products, FOR UPDATE, in id order as a purchase does.
-- psql -v invoice_id=1 -f sql/queries/invoices/lock_stock.sql
SELECT p.id, p.stock
FROM invoice_details AS d
INNER JOIN products AS p ON d.product_id = p.id
WHERE d.invoice_id = :'invoice_id'::bigint
ORDER BY p.id
FOR UPDATE OF p;
