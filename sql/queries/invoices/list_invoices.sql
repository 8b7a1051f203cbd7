-- One page of the invoices of one customer, newest first, with filters.
--
--   user_id  bigint       the customer
--   status   text         only invoices with this status; NULL (empty in psql) for any
--   since    timestamptz  only invoices created at or after this time; NULL (empty in psql) for no limit
--   until    timestamptz  only invoices created before this time; NULL (empty in psql) for no limit
--   before   bigint       last id of the previous page, with the same filters; 0 for the first page
--   limit    integer      maximum number of rows
--
-- Locks: none.
-- psql -v user_id=1 -v status= -v since= -v until= -v before=0 -v limit=50 -f sql/queries/invoices/list_invoices.sql
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
            nullif(:'until'::text, '')::timestamptz,
            'infinity'
        ),
        :'before'::bigint
    )
    -- A scalar subquery runs once, so that the text is not converted to a time for each row.
    AND (user_id, created_at) >= (:'user_id'::bigint, (SELECT coalesce(nullif(:'since'::text, '')::timestamptz, '-infinity')))
    AND (nullif(:'status'::text, '') IS NULL OR status = :'status'::text)
ORDER BY user_id DESC, created_at DESC, id DESC
LIMIT :'limit'::integer;
