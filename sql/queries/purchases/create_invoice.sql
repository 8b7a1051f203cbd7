-- Adds the invoice of a purchase, pending; its lines must follow in the same transaction, and sum up to its total.
--
--   user_id  bigint   who buys
--   total    numeric  sum of its lines
--
-- One step of a purchase: run it between BEGIN and COMMIT with the others, or ROLLBACK.
--
-- Locks: the new row; the buyer's row against deletion.
-- psql -v user_id=1 -v total=0 -f sql/queries/purchases/create_invoice.sql
INSERT INTO invoices (user_id, total)
VALUES (:'user_id'::bigint, :'total'::numeric)
RETURNING
    id,
    number,
    user_id,
    status,
    total,
    (SELECT shop.currency FROM shop) AS currency,
    created_at;
