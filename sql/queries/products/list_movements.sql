-- One page of the ledger of a product, newest first; also of a product that is no longer on sale.
--
--   product_id  bigint   the product
--   before      bigint   the last id of the page before; 9223372036854775807 for the first page
--   limit       integer  rows at most
--
-- Locks: none.
-- psql -v product_id=4 -v before=9223372036854775807 -v limit=50 -f sql/queries/products/list_movements.sql
SELECT id, product_id, kind, delta, stock, invoice_id, actor_id, reason, created_at
FROM stock_movements
WHERE product_id = :'product_id'::bigint AND id < :'before'::bigint
ORDER BY id DESC
LIMIT :'limit'::integer;
