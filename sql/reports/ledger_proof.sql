-- Products whose stock differs from the sum of their movements, or whose movements do not follow from each other; no rows if the ledger is correct.
--
-- Parameters: none.
-- Locks: none. Reads every movement: do not run it every minute.
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
