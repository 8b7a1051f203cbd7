-- Buys all that is wanted, or nothing: writes the invoice with its lines, takes the pieces out of stock, and tells what was found.
--
--   user_id          bigint     who buys
--   product_ids      bigint[]   the products, each once
--   quantities       integer[]  pieces of each, in the same order
--   expected_ids     bigint[]   products that the buyer knows a price of; one may be there more than once
--   expected_prices  numeric[]  these prices, in the same order
--
-- A row for each of the products that is on sale, in id order, with its price and the stock before. When one of them is not on sale,
-- has too little stock or another price, nothing is bought, and all that belongs to the invoice is NULL.
--
-- Locks: the rows of the products, FOR UPDATE, until the transaction ends; the new rows; the buyer's row against deletion.
-- psql -v user_id=1 -v product_ids='{1,2}' -v quantities='{3,1}' -v expected_ids='{}' -v expected_prices='{}' -f sql/queries/purchases/buy_products.sql
WITH wanted AS (
    SELECT w.product_id, w.quantity
    FROM unnest(:'product_ids'::bigint[], :'quantities'::integer[]) AS w (product_id, quantity)
),

-- In id order, so that two purchases never wait for each other in a circle; who waits gets the row as the other one left it.
locked AS (
    SELECT id, name, price, stock
    FROM products
    WHERE id = any(:'product_ids'::bigint[]) AND deleted_at IS NULL
    ORDER BY id
    FOR UPDATE
),

-- One row if everything can be had; else none, and nothing below is written.
deal AS (
    SELECT sum(l.price * w.quantity) AS total
    FROM wanted AS w
    LEFT JOIN locked AS l ON w.product_id = l.id
    HAVING
        count(*) = count(*) FILTER (WHERE l.stock >= w.quantity)
        AND NOT EXISTS (
            SELECT FROM unnest(:'expected_ids'::bigint[], :'expected_prices'::numeric[]) AS e (product_id, price)
            INNER JOIN locked AS k ON e.product_id = k.id
            WHERE e.price <> k.price
        )
),

invoice AS (
    INSERT INTO invoices (user_id, total)
    SELECT :'user_id'::bigint, deal.total FROM deal
    RETURNING id, number, user_id, status, total, created_at
),

-- With name and price as they are at this moment.
details AS (
    INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity)
    SELECT i.id AS invoice_id, l.id AS product_id, l.name, l.price, w.quantity
    FROM invoice AS i
    CROSS JOIN locked AS l
    INNER JOIN wanted AS w ON l.id = w.product_id
    ORDER BY l.id
    RETURNING product_id, quantity, line_total, credited, restocked
),

-- The ledger names the invoice. From the stock that was locked: p is first seen as it was when the statement began, and checked so.
taken AS (
    UPDATE products AS p
    SET stock = l.stock - w.quantity
    FROM
        invoice AS i,
        locked AS l,
        wanted AS w,
        stock_cause('sale', i.id, i.user_id, NULL)
    WHERE p.id = l.id AND l.id = w.product_id
)

SELECT
    l.id AS product_id,
    l.name,
    l.price AS unit_price,
    l.stock,
    d.quantity,
    d.line_total,
    d.credited,
    d.restocked,
    i.id AS invoice_id,
    i.number,
    i.user_id,
    i.status,
    i.total,
    (SELECT shop.currency FROM shop) AS currency,
    i.created_at
FROM locked AS l
LEFT JOIN details AS d ON l.id = d.product_id
LEFT JOIN invoice AS i ON true
ORDER BY l.id;
