-- Products on sale with little stock, lowest first.
--
--   stock  integer  maximum stock; NULL (empty in psql) for 10
--   limit  integer  maximum number of rows
--
-- Locks: none. Reads every product: every purchase would have to maintain an index on stock.
-- psql -v stock=10 -v limit=100 -f sql/reports/low_stock.sql
SELECT id, name, stock
FROM products
WHERE deleted_at IS NULL AND stock <= coalesce(nullif(:'stock'::text, '')::integer, 10)
ORDER BY stock, id
LIMIT :'limit'::integer;
