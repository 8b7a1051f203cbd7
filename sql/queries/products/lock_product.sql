-- Locks a product on sale for an edit, and tells its stock and version; no row when there is no such product.
--
--   product_id  bigint  the product
--
-- One step of an edit: run it between BEGIN and COMMIT with the others, or ROLLBACK.
--
-- Locks: the row of the product, FOR UPDATE, until the transaction ends.
-- psql -v product_id=4 -f sql/queries/products/lock_product.sql
SELECT stock, version
FROM products
WHERE id = :'product_id'::bigint AND deleted_at IS NULL
FOR UPDATE;
