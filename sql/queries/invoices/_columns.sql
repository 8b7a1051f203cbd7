-- The invoice columns that the queries of this folder return, in the order of the JSON; the lines are queries of their own.
\set invoice_columns 'id, number, user_id, status, total, (SELECT shop.currency FROM shop) AS currency, created_at'
-- For admins, the buyer's email, too.
\set admin_columns :invoice_columns ', (SELECT u.email FROM users AS u WHERE u.id = invoices.user_id) AS email'
