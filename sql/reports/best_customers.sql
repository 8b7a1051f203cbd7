-- Customers by what they paid in a period, less later credits, the highest amount first.
--
--   since  timestamptz  only purchases at or after this time; NULL (empty in psql) for the last 30 days, including today
--   until  timestamptz  only purchases before this time; NULL (empty in psql) for no limit
--   limit  integer      maximum number of rows
--
-- Counts invoices that were ever paid, refunded ones too. The email is NULL if the account was erased.
-- A time without an offset is UTC (set by roles.sql), unless the session sets another time zone.
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
        -- Scalar subqueries run once, so that the text is not converted to a time for each row.
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

-- Looks up the email only for the rows in the result.
SELECT
    b.user_id,
    u.email,
    b.invoices,
    b.net,
    (SELECT shop.currency FROM shop) AS currency
FROM best AS b
INNER JOIN users AS u ON b.user_id = u.id
ORDER BY b.net DESC, b.user_id ASC;
