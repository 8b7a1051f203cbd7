-- One page of all customers' invoices in one state, newest first.
--
--   status  text         the state
--   since   timestamptz  only made at this time or later; NULL (empty in psql) for any
--   until   timestamptz  only made before this time; NULL (empty in psql) for any
--   before  bigint       the last id of the page before, of the same filters; 0 for the first page
--   limit   integer      rows at most
--
-- Locks: none.
-- psql -v status=paid -v since=2026-01-01 -v until= -v before=0 -v limit=50 -f sql/queries/invoices/search_invoices_by_status.sql
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
    (status, created_at, id) < (
        :'status'::text,
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
    -- A query of its own, so that the time is read once and not once a row.
    AND (status, created_at) >= (:'status'::text, (SELECT coalesce(nullif(:'since'::text, '')::timestamptz, '-infinity')))
ORDER BY status DESC, created_at DESC, id DESC
LIMIT :'limit'::integer;
