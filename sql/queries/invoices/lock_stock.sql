-- Locks products whose goods come back, on sale or not, and tells what is in stock.
--
--   product_ids  bigint[]  the products
--
-- One step of a cancellation or a credit note: run it between BEGIN and COMMIT with the others, or ROLLBACK.
--
-- Locks: the rows of the products, FOR UPDATE, in id order as a purchase does.
-- psql -v product_ids='{1,2}' -f sql/queries/invoices/lock_stock.sql
SELECT id, stock
FROM products
WHERE id = any(:'product_ids'::bigint[])
ORDER BY id
FOR UPDATE;
