-- The products on sale among those with these ids, in the order of the ids.
--
--   product_ids  bigint[]  the products, each once
--
-- Locks: none.
-- psql -v product_ids='{4,1,7}' -f sql/queries/products/list_products_by_id.sql
\ir _columns.sql
SELECT :product_columns
FROM products
WHERE id = any(:'product_ids'::bigint[]) AND deleted_at IS NULL
ORDER BY array_position(:'product_ids'::bigint[], id);
