-- Locks a product on sale and returns it; no row if there is no such product.
--
--   product_id  bigint  the product
--
-- One step of an edit: run it in one transaction with the other steps.
--
-- Locks: products, the row, FOR UPDATE.
-- psql -v product_id=4 -f sql/queries/products/lock_product.sql
\ir _columns.sql
SELECT :product_columns
FROM products
WHERE id = :'product_id'::bigint AND deleted_at IS NULL
FOR UPDATE;
