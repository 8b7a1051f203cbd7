-- One page of the products on sale, in id order.
--
--   after  bigint   last id of the previous page; 0 for the first page
--   limit  integer  maximum number of rows
--
-- Locks: none.
-- psql -v after=0 -v limit=50 -f sql/queries/products/list_products.sql
\ir _columns.sql
SELECT :product_columns
FROM products
WHERE id > :'after'::bigint AND deleted_at IS NULL
ORDER BY id
LIMIT :'limit'::integer;
