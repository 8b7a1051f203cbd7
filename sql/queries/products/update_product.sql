-- Changes what is given of a product on sale, and raises its version; no row when there is no such product.
--
--   product_id  bigint   the product
--   name        text     new name; NULL (empty in psql) leaves it
--   price       numeric  new price; NULL (empty in psql) leaves it
--   stock       integer  new stock; NULL (empty in psql) leaves it
--
-- Locks: the row of the product.
-- psql -v product_id=4 -v name= -v price=12.50 -v stock= -f sql/queries/products/update_product.sql
UPDATE products
SET
    name = coalesce(nullif(:'name'::text, ''), name),
    price = coalesce(nullif(:'price'::text, '')::numeric, price),
    stock = coalesce(nullif(:'stock'::text, '')::integer, stock),
    version = version + 1,
    updated_at = now()
WHERE id = :'product_id'::bigint AND deleted_at IS NULL
RETURNING
    id,
    name,
    price,
    (SELECT currency FROM shop) AS currency,
    stock,
    version,
    created_at,
    updated_at;
