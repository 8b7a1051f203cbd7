-- Who bought most in a period: what was paid, less what was credited since, the largest sum first.
--
--   since  timestamptz  only purchases at this time or later; NULL (empty in psql) for the last 30 days, today included
--   until  timestamptz  only purchases before this time; NULL (empty in psql) for any
--   limit  integer      rows at most
--
-- The email is NULL when the account was erased. Invoices are those that have been paid, also what was refunded since.
--
-- A time without an offset is UTC, as roles.sql sets it, unless the session says otherwise.
--
-- Locks: none. Reads every invoice of the period.
-- psql -v since=2026-01-01 -v until= -v limit=100 -f sql/reports/best_customers.sql
WITH best AS (
    SELECT
        i.user_id,
        count(*) AS invoices,
        sum(i.total - c.credited) AS net
    FROM invoices AS i
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
    GROUP BY i.user_id
    ORDER BY net DESC, i.user_id ASC
    LIMIT :'limit'::integer
)

-- Only of those who are shown, the email is looked up.
SELECT
    b.user_id,
    u.email,
    b.invoices,
    b.net,
    (SELECT shop.currency FROM shop) AS currency
FROM best AS b
INNER JOIN users AS u ON b.user_id = u.id
ORDER BY b.net DESC, b.user_id ASC;
