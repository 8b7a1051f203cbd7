-- The product columns that the queries of this folder return, in the order of the JSON.
\set product_columns 'id, name, price, (SELECT shop.currency FROM shop) AS currency, stock, version, created_at, updated_at'
