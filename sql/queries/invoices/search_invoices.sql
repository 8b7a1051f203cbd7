-- One page of all customers' invoices, newest first.
--
--   status   text         only in this state; NULL (empty in psql) for any
--   user_id  bigint       only of this customer; NULL (empty in psql) for any
--   since    timestamptz  only made at this time or later; NULL (empty in psql) for any
--   until    timestamptz  only made before this time; NULL (empty in psql) for any
--   before   bigint       the last id of the page before; 9223372036854775807 for the first page
--   limit    integer      rows at most
--
-- Locks: none.
-- psql -v status=paid -v user_id= -v since=2026-01-01 -v until= -v before=9223372036854775807 -v limit=50 -f sql/queries/invoices/search_invoices.sql
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
            'infinity'
        ),
        :'before'::bigint
    )
    AND (nullif(:'status'::text, '') IS NULL OR status = :'status'::text)
    AND (nullif(:'user_id'::text, '') IS NULL OR user_id = nullif(:'user_id'::text, '')::bigint)
    -- Each a query of its own, so that a time is read once and not once a row.
    AND created_at >= (SELECT coalesce(nullif(:'since'::text, '')::timestamptz, '-infinity'))
    AND created_at < (SELECT coalesce(nullif(:'until'::text, '')::timestamptz, 'infinity'))
ORDER BY created_at DESC, id DESC
LIMIT :'limit'::integer;
