-- Takes a product off sale permanently, keeping its row; returns its id, or no row if there is no such product on sale.
--
--   product_id  bigint  the product
--
-- Locks: products, the row.
-- psql -v product_id=4 -f sql/queries/products/delete_product.sql
UPDATE products
SET deleted_at = now(), version = version + 1, updated_at = now()
WHERE id = :'product_id'::bigint AND deleted_at IS NULL
RETURNING id;
