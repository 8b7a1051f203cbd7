-- An invoice without its lines, in the order of its JSON: the columns of every query here that answers with one.
\set invoice_columns 'id, number, user_id, status, total, (SELECT shop.currency FROM shop) AS currency, created_at'
