-- What the API shows of a product, in the order of its JSON: the columns of every query here that answers with one.
\set product_columns 'id, name, price, (SELECT shop.currency FROM shop) AS currency, stock, version, created_at, updated_at'
