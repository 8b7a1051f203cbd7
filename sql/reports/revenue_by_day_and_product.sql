-- What was sold and what was taken back of it, by UTC day of the purchase (newest first) and product; only of invoices that have been paid.
--
--   since  timestamptz  only purchases at this time or later; NULL (empty in psql) for the last 30 days, today included
--   until  timestamptz  only purchases before this time; NULL (empty in psql) for any
--   limit  integer      rows at most
--
-- Name and price are those at the purchase; what later credit notes take back is taken off the day of the purchase.
--
-- A time without an offset is UTC, as roles.sql sets it, unless the session says otherwise.
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
    -- Each a query of its own, so that a time is read once and not once a row.
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
