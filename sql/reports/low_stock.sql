-- Products on sale of which there are few pieces, the fewest first.
--
--   stock  integer  pieces at most; NULL (empty in psql) for 10
--   limit  integer  rows at most
--
-- Locks: none. Reads every product: an index on stock would be paid for by every purchase.
-- psql -v stock=10 -v limit=100 -f sql/reports/low_stock.sql
SELECT id, name, stock
FROM products
WHERE deleted_at IS NULL AND stock <= coalesce(nullif(:'stock'::text, '')::integer, 10)
ORDER BY stock, id
LIMIT :'limit'::integer;
