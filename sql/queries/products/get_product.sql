-- One product that is on sale.
--
--   product_id  bigint  the product
--
-- Locks: none.
-- psql -v product_id=4 -f sql/queries/products/get_product.sql
\ir _columns.sql
SELECT :product_columns
FROM products
WHERE id = :'product_id'::bigint AND deleted_at IS NULL;
