-- Takes the pieces of a purchase out of stock; the ledger names the invoice.
--
--   product_ids  bigint[]   the products, each once, locked before by lock_products
--   quantities   integer[]  pieces of each, in the same order
--   invoice_id   bigint     the invoice, with its lines
--   actor_id     bigint     who buys
--
-- One step of a purchase: run it between BEGIN and COMMIT with the others, or ROLLBACK.
--
-- Locks: the rows of the products.
-- psql -v product_ids='{1,2}' -v quantities='{3,1}' -v invoice_id=1 -v actor_id=1 -f sql/queries/purchases/take_stock.sql
UPDATE products AS p
SET stock = p.stock - w.quantity
FROM
    unnest(:'product_ids'::bigint[], :'quantities'::integer[]) AS w (product_id, quantity),
    stock_cause('sale', :'invoice_id'::bigint, :'actor_id'::bigint, NULL)
WHERE p.id = w.product_id;
