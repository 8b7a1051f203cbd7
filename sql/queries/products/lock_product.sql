-- Locks a product on sale and returns its stock and version; no row if there is no such product.
--
--   product_id  bigint  the product
--
-- One step of an edit: run it in one transaction with the other steps.
--
-- Locks: products, the row, FOR UPDATE.
-- psql -v product_id=4 -f sql/queries/products/lock_product.sql
SELECT stock, version
FROM products
WHERE id = :'product_id'::bigint AND deleted_at IS NULL
FOR UPDATE;
