-- Unpaid invoices, oldest first, with their age in whole days.
--
--   older_than_days  integer  minimum age in days; NULL (empty in psql) for any
--   limit            integer  maximum number of rows
--
-- Unpaid invoices have the status pending. The email is NULL if the account was erased.
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
    -- In hours, because a day in the session's time zone can have 23 or 25. Capped at 100 years, so that the result is a valid time.
    AND i.created_at <= now()
    - interval '24 hours' * least(greatest(coalesce(nullif(:'older_than_days'::text, '')::integer, 0), 0), 36500)
ORDER BY i.created_at, i.id
LIMIT :'limit'::integer;
