-- One product that is on sale.
--
--   product_id  bigint  the product
--
-- Locks: none.
-- psql -v product_id=4 -f sql/queries/products/get_product.sql
SELECT
    id,
    name,
    price,
    (SELECT shop.currency FROM shop) AS currency,
    stock,
    version,
    created_at,
    updated_at
FROM products
WHERE id = :'product_id'::bigint AND deleted_at IS NULL;
