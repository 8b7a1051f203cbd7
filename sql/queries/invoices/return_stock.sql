-- Puts goods of an invoice back into stock, also those of products that were taken off sale since; the ledger names the invoice, whose event or credit note has the reason.
--
--   product_ids  bigint[]   the products, each once, locked before by lock_stock
--   quantities   integer[]  pieces of each, in the same order
--   kind         text       cancel_restock or return_restock
--   invoice_id   bigint     the invoice
--   actor_id     bigint     who brings them back
--
-- One step of a cancellation or a credit note: run it between BEGIN and COMMIT with the others, or ROLLBACK.
--
-- Locks: the rows of the products; the lines of the invoice.
-- psql -v product_ids='{1,2}' -v quantities='{3,1}' -v kind=cancel_restock -v invoice_id=1 -v actor_id=1 -f sql/queries/invoices/return_stock.sql
UPDATE products AS p
SET stock = p.stock + w.quantity
FROM
    unnest(:'product_ids'::bigint[], :'quantities'::integer[]) AS w (product_id, quantity),
    stock_cause(:'kind'::text, :'invoice_id'::bigint, :'actor_id'::bigint, NULL)
WHERE p.id = w.product_id;
