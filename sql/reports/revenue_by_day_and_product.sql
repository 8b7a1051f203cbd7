-- Sales and credits of paid invoices by UTC day of purchase, newest first, and by product.
--
--   since  timestamptz  only purchases at or after this time; NULL (empty in psql) for the last 30 days, including today
--   until  timestamptz  only purchases before this time; NULL (empty in psql) for no limit
--   limit  integer      maximum number of rows
--
-- Counts invoices that were ever paid, refunded ones too. Name and price are those at the time of purchase. A credit counts on
-- the day of the purchase, not on its own day.
-- A time without an offset is UTC (set by roles.sql), unless the session sets another time zone.
--
-- Locks: none. Reads every invoice of the period.
-- psql -v since=2026-01-01 -v until= -v limit=100 -f sql/reports/revenue_by_day_and_product.sql
SELECT
    (i.created_at AT TIME ZONE 'UTC')::date AS day,
    d.product_id,
    d.name,
    (SELECT shop.currency FROM shop) AS currency,
    sum(d.quantity) AS pieces,
    sum(d.line_total) AS gross,
    sum(d.unit_price * d.credited) AS credited,
    sum(d.line_total - d.unit_price * d.credited) AS net
FROM invoices AS i
INNER JOIN invoice_details AS d ON i.id = d.invoice_id
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
GROUP BY day, d.product_id, d.name
ORDER BY day DESC, d.product_id ASC, d.name ASC
LIMIT :'limit'::integer;
