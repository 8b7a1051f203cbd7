-- One page of a customer's invoices, newest first.
--
--   user_id  bigint   the customer
--   before   bigint   the last id of the page before; 0 for the first page
--   limit    integer  rows at most
--
-- Locks: none.
-- psql -v user_id=1 -v before=0 -v limit=50 -f sql/queries/invoices/list_invoices.sql
SELECT
    id,
    number,
    user_id,
    status,
    total,
    (SELECT shop.currency FROM shop) AS currency,
    created_at
FROM invoices
WHERE
    -- By all of an index, and not by its first column and the rest: so no plan takes another index, whatever the values.
    (user_id, created_at, id) < (
        :'user_id'::bigint,
        coalesce(
            (
                -- Of another customer's invoice, nothing is told; and as no condition, it takes no walk through all of one's own.
                SELECT CASE WHEN b.user_id = :'user_id'::bigint THEN b.created_at END FROM invoices AS b
                WHERE b.id = :'before'::bigint
            ),
            'infinity'
        ),
        :'before'::bigint
    )
    AND user_id >= :'user_id'::bigint
ORDER BY user_id DESC, created_at DESC, id DESC
LIMIT :'limit'::integer;
