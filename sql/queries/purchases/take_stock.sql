-- Takes the pieces of a purchase out of stock.
--
--   product_ids  bigint[]   the products, each once, locked before by lock_products
--   quantities   integer[]  pieces of each, in the same order
--
-- Locks: the rows of the products.
-- psql -v product_ids='{1,2}' -v quantities='{3,1}' -f sql/queries/purchases/take_stock.sql
UPDATE products AS p
SET stock = p.stock - w.quantity
FROM unnest(:'product_ids'::bigint [], :'quantities'::integer []) AS w (product_id, quantity)
WHERE p.id = w.product_id;
