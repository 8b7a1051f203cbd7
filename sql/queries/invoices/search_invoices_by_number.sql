-- The invoice with a number for admins, if it fits the filters.
--
--   number   text         the number
--   user_id  bigint       only an invoice of this customer; NULL (empty in psql) for anybody's
--   status   text         only an invoice with this status; NULL (empty in psql) for any
--   since    timestamptz  only an invoice created at or after this time; NULL (empty in psql) for no limit
--   until    timestamptz  only an invoice created before this time; NULL (empty in psql) for no limit
--
-- Locks: none.
-- psql -v number=2026-000001 -v user_id= -v status=paid -v since= -v until= -f sql/queries/invoices/search_invoices_by_number.sql
\ir _columns.sql
SELECT :admin_columns
FROM invoices
WHERE
    number = :'number'::text
    AND user_id = coalesce(nullif(:'user_id'::text, '')::bigint, user_id)
    AND status = coalesce(nullif(:'status'::text, ''), status)
    AND created_at >= coalesce(nullif(:'since'::text, '')::timestamptz, '-infinity')
    AND created_at < coalesce(nullif(:'until'::text, '')::timestamptz, 'infinity');
