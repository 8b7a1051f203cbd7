-- Locks the products whose pieces go back into stock, deleted ones too, and returns their stock.
--
--   product_ids  bigint[]  the products
--
-- One step of a cancellation or a credit note: run it in one transaction with the other steps.
--
-- Locks: products, the rows in id order, FOR UPDATE.
-- psql -v product_ids='{1,2}' -f sql/queries/invoices/lock_stock.sql
SELECT id, stock
FROM products
WHERE id = any(:'product_ids'::bigint[])
ORDER BY id
FOR UPDATE;
