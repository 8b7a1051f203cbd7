-- Who bought most in a period: what was paid, less what was credited since, the largest sum first.
--
--   since  timestamptz  only purchases at this time or later; NULL (empty in psql) for the last 30 days, today included
--   until  timestamptz  only purchases before this time; NULL (empty in psql) for any
--   limit  integer      rows at most
--
-- The email is NULL when the account was erased. Invoices are those that have been paid, also what was refunded since.
--
-- Locks: none.
-- psql -v since=2026-01-01 -v until= -v limit=100 -f sql/reports/best_customers.sql
SELECT
    i.user_id,
    u.email,
    count(*) AS invoices,
    sum(i.total - c.credited) AS net,
    (SELECT shop.currency FROM shop) AS currency
FROM invoices AS i
INNER JOIN users AS u ON i.user_id = u.id
CROSS JOIN
    LATERAL (
        SELECT coalesce(sum(d.unit_price * d.credited), 0) AS credited
        FROM invoice_details AS d
        WHERE d.invoice_id = i.id
    ) AS c
WHERE
    i.number IS NOT NULL
    -- Each a query of its own, so that a time is read once and not once a row.
    AND i.created_at >= (
        SELECT coalesce(
            nullif(:'since'::text, '')::timestamptz,
            (date_trunc('day', now() AT TIME ZONE 'UTC') - interval '29 days') AT TIME ZONE 'UTC'
        )
    )
    AND i.created_at < (SELECT coalesce(nullif(:'until'::text, '')::timestamptz, 'infinity'))
GROUP BY i.user_id, u.email
ORDER BY net DESC, i.user_id ASC
LIMIT :'limit'::integer;
