-- Proves the ledger: every product whose stock is not the sum of its movements, or whose movements do not follow on each other. No row is good.
--
-- Parameters: none.
-- Locks: none. Reads every movement: for checks, not for every minute.
-- psql -f sql/queries/products/list_ledger_faults.sql
SELECT
    p.id AS product_id,
    p.stock,
    coalesce(m.total, 0)::bigint AS ledger,
    coalesce(m.breaks, 0)::bigint AS breaks
FROM products AS p
LEFT JOIN (
    SELECT
        steps.product_id,
        sum(steps.delta) AS total,
        count(*) FILTER (WHERE steps.stock <> steps.expected) AS breaks
    FROM (
        SELECT
            product_id,
            delta,
            stock,
            sum(delta) OVER (PARTITION BY product_id ORDER BY id) AS expected
        FROM stock_movements
    ) AS steps
    GROUP BY steps.product_id
) AS m ON p.id = m.product_id
WHERE p.stock IS DISTINCT FROM m.total OR m.breaks > 0
ORDER BY p.id;
