-- One page of the invoices of all customers for admins, newest first.
--
--   since   timestamptz  only invoices created at or after this time; NULL (empty in psql) for no limit
--   until   timestamptz  only invoices created before this time; NULL (empty in psql) for no limit
--   before  bigint       last id of the previous page, with the same filters; 0 for the first page
--   limit   integer      maximum number of rows
--
-- Locks: none.
-- psql -v since=2026-01-01 -v until= -v before=0 -v limit=50 -f sql/queries/invoices/search_invoices.sql
\ir _columns.sql
SELECT :admin_columns
FROM invoices
WHERE
    (created_at, id) < (
        coalesce(
            (
                SELECT b.created_at FROM invoices AS b
                WHERE b.id = :'before'::bigint
            ),
            nullif(:'until'::text, '')::timestamptz,
            'infinity'
        ),
        :'before'::bigint
    )
    -- A scalar subquery runs once, so that the text is not converted to a time for each row.
    AND created_at >= (SELECT coalesce(nullif(:'since'::text, '')::timestamptz, '-infinity'))
ORDER BY created_at DESC, id DESC
LIMIT :'limit'::integer;
