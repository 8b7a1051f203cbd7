-- Puts pieces of an invoice back into stock, also those of deleted products, and records it in the ledger.
--
--   product_ids  bigint[]   the products, each once, locked before by lock_stock
--   quantities   integer[]  pieces of each, in the same order
--   kind         text       cancel_restock or return_restock
--   invoice_id   bigint     the invoice
--   actor_id     bigint     the user who puts them back
--
-- One step of a cancellation or a credit note: run it in one transaction with the other steps. The reason is in the event or the
-- credit note, not in the ledger.
--
-- Locks: invoice_details, the lines of the invoice; products, the rows. Adds rows to stock_movements.
-- psql -v product_ids='{1,2}' -v quantities='{3,1}' -v kind=cancel_restock -v invoice_id=1 -v actor_id=1 -f sql/queries/invoices/return_stock.sql
UPDATE products AS p
SET stock = p.stock + w.quantity
FROM
    unnest(:'product_ids'::bigint[], :'quantities'::integer[]) AS w (product_id, quantity),
    stock_cause(:'kind'::text, :'invoice_id'::bigint, :'actor_id'::bigint, NULL)
WHERE p.id = w.product_id;
