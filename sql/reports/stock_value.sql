-- The number of products on sale, their pieces in stock, and the value of these pieces at current prices.
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
