-- One page of all customers' invoices, newest first.
--
--   since   timestamptz  only made at this time or later; NULL (empty in psql) for any
--   until   timestamptz  only made before this time; NULL (empty in psql) for any
--   before  bigint       the last id of the page before, of the same filters; 0 for the first page
--   limit   integer      rows at most
--
-- Locks: none.
-- psql -v since=2026-01-01 -v until= -v before=0 -v limit=50 -f sql/queries/invoices/search_invoices.sql
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
    -- A query of its own, so that the time is read once and not once a row.
    AND created_at >= (SELECT coalesce(nullif(:'since'::text, '')::timestamptz, '-infinity'))
ORDER BY created_at DESC, id DESC
LIMIT :'limit'::integer;
