-- One page of the invoices of one customer, newest first.
--
--   user_id  bigint   the customer
--   before   bigint   last id of the previous page; 0 for the first page
--   limit    integer  maximum number of rows
--
-- Locks: none.
-- psql -v user_id=1 -v before=0 -v limit=50 -f sql/queries/invoices/list_invoices.sql
\ir _columns.sql
SELECT :invoice_columns
FROM invoices
WHERE
    -- Compares the whole key of one index as a row, so that the planner uses this index for all values.
    (user_id, created_at, id) < (
        :'user_id'::bigint,
        coalesce(
            (
                -- A cursor of another customer gives nothing away. As a CASE and not a condition, it keeps the lookup by primary key.
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
