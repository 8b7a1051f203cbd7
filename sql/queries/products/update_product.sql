-- Changes a product on sale and increases its version; no row if it has all these values already, or if there is no such product.
--
--   product_id  bigint   the product
--   name        text     new name; NULL (empty in psql) leaves it
--   price       numeric  new price; NULL (empty in psql) leaves it
--   stock       integer  new stock; NULL (empty in psql) leaves it
--   actor_id    bigint   the user who changes it
--   reason      text     why the stock changes, at most 500 characters; NULL (empty in psql) for none
--
-- Locks: products, the row. Adds a row to stock_movements.
-- psql -v product_id=4 -v name= -v price=12.50 -v stock= -v actor_id=1 -v reason= -f sql/queries/products/update_product.sql
\ir _columns.sql
UPDATE products
SET
    name = coalesce(nullif(:'name'::text, ''), name),
    price = coalesce(nullif(:'price'::text, '')::numeric, price),
    stock = coalesce(nullif(:'stock'::text, '')::integer, stock),
    version = version + 1,
    updated_at = now()
FROM stock_cause('adjust', NULL, :'actor_id'::bigint, nullif(:'reason'::text, ''))
WHERE
    id = :'product_id'::bigint
    AND deleted_at IS NULL
    AND (name, price, stock) IS DISTINCT FROM (
        coalesce(nullif(:'name'::text, ''), name),
        coalesce(nullif(:'price'::text, '')::numeric, price),
        coalesce(nullif(:'stock'::text, '')::integer, stock)
    )
RETURNING :product_columns;
