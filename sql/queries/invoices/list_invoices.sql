-- One page of a customer's invoices, newest first.
--
--   user_id  bigint   the customer
--   before   bigint   the last id of the page before; 9223372036854775807 for the first page
--   limit    integer  rows at most
--
-- Locks: none.
-- psql -v user_id=1 -v before=9223372036854775807 -v limit=50 -f sql/queries/invoices/list_invoices.sql
SELECT
    id,
    number,
    user_id,
    status,
    total,
    (SELECT shop.currency FROM shop) AS currency,
    created_at
FROM invoices
WHERE user_id = :'user_id'::bigint AND id < :'before'::bigint
ORDER BY id DESC
LIMIT :'limit'::integer;
