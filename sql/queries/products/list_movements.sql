-- One page of the stock ledger of a product, newest first, also of a deleted product.
--
--   product_id  bigint   the product
--   before      bigint   last id of the previous page; 9223372036854775807 for the first page
--   limit       integer  maximum number of rows
--
-- Locks: none.
-- psql -v product_id=4 -v before=9223372036854775807 -v limit=50 -f sql/queries/products/list_movements.sql
SELECT id, product_id, kind, delta, stock, invoice_id, actor_id, reason, created_at
FROM stock_movements
WHERE product_id = :'product_id'::bigint AND id < :'before'::bigint
ORDER BY id DESC
LIMIT :'limit'::integer;
