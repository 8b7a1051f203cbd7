-- Proves the ledger: every product whose stock is not the sum of its movements, or whose movements do not follow on each other. No row is good.
--
-- Parameters: none.
-- Locks: none. Reads every movement: for checks, not for every minute.
-- psql -f sql/reports/ledger_proof.sql
WITH steps AS (
    SELECT
        product_id,
        delta,
        stock,
        sum(delta) OVER (PARTITION BY product_id ORDER BY id) AS expected
    FROM stock_movements
),

ledgers AS (
    SELECT
        product_id,
        sum(delta) AS total,
        count(*) FILTER (WHERE stock <> expected) AS breaks
    FROM steps
    GROUP BY product_id
)

SELECT
    p.id AS product_id,
    p.stock,
    coalesce(l.total, 0)::bigint AS ledger,
    coalesce(l.breaks, 0)::bigint AS breaks
FROM products AS p
LEFT JOIN ledgers AS l ON p.id = l.product_id
WHERE p.stock IS DISTINCT FROM l.total OR l.breaks > 0
ORDER BY p.id;
