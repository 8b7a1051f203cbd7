-- Adds a product; its stock is the first entry in its ledger.
--
--   name      text     1 to 200 characters, no space at either end
--   price     numeric  price of one piece in the currency of the shop
--   stock     integer  pieces that can be sold, 0 to 1,000,000,000
--   actor_id  bigint   the user who adds it
--
-- Locks: none. Adds rows to products and stock_movements.
-- psql -v name='Cat tree, oak' -v price=89.90 -v stock=12 -v actor_id=1 -f sql/queries/products/create_product.sql
\ir _columns.sql
INSERT INTO products (name, price, stock)
SELECT :'name'::text, :'price'::numeric, :'stock'::integer
FROM stock_cause('initial', NULL, :'actor_id'::bigint, NULL)
RETURNING :product_columns;
