-- Invoices that wait to be paid, the oldest first, with their age in whole days.
--
--   older_than_days  integer  only those that have waited for this many days; NULL (empty in psql) for any
--   limit            integer  rows at most
--
-- The email is NULL when the account was erased.
--
-- Locks: none.
-- psql -v older_than_days=14 -v limit=100 -f sql/reports/unpaid_invoices.sql
SELECT
    i.id,
    i.user_id,
    u.email,
    i.total,
    (SELECT shop.currency FROM shop) AS currency,
    i.created_at,
    extract(DAY FROM now() - i.created_at)::integer AS age_days
FROM invoices AS i
INNER JOIN users AS u ON i.user_id = u.id
WHERE
    i.status = 'pending'
    -- In hours, because a day of the session's time zone may have 23 or 25; at most a century, before which there is no time soon.
    AND i.created_at <= now()
    - interval '24 hours' * least(greatest(coalesce(nullif(:'older_than_days'::text, '')::integer, 0), 0), 36500)
ORDER BY i.created_at, i.id
LIMIT :'limit'::integer;
