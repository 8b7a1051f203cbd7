-- What is on sale: how many products, how many pieces of them are in stock, and their value at today's prices.
--
-- Parameters: none.
-- Locks: none. Reads every product.
-- psql -f sql/reports/stock_value.sql
SELECT
    count(*) AS products,
    coalesce(sum(stock), 0) AS pieces,
    coalesce(sum(price * stock), 0) AS value,
    (SELECT shop.currency FROM shop) AS currency
FROM products
WHERE deleted_at IS NULL;
