-- Adds the invoice of a purchase, pending.
--
--   user_id  bigint   who buys
--   total    numeric  sum of its lines
--
-- Locks: the new row; the buyer's row against deletion.
-- psql -v user_id=1 -v total=25.00 -f sql/queries/purchases/create_invoice.sql
INSERT INTO invoices (user_id, total)
VALUES (:'user_id'::bigint, :'total'::numeric)
RETURNING
    id,
    user_id,
    status,
    total,
    (SELECT currency FROM shop) AS currency,
    created_at;
