-- Makes a purchase, all or nothing: locks the products, writes the invoice with its lines, and takes the pieces out of stock.
--
--   user_id          bigint     the buyer
--   product_ids      bigint[]   the products, each once
--   quantities       integer[]  pieces of each, in the same order
--   expected_ids     bigint[]   products with an expected price; the same product may occur more than once
--   expected_prices  numeric[]  these prices, in the same order
--
-- Returns one row per product that is on sale, in id order, with its price and its stock before the purchase. If a product is not
-- on sale, has too little stock or not the expected price, nothing is bought, and all columns of the invoice are NULL.
--
-- Locks: users, the row of the buyer, FOR KEY SHARE; products, the rows in id order, FOR UPDATE. Adds rows to invoices, invoice_details
-- and stock_movements.
-- psql -v user_id=1 -v product_ids='{1,2}' -v quantities='{3,1}' -v expected_ids='{}' -v expected_prices='{}' -f sql/queries/purchases/buy_products.sql
WITH wanted AS (
    SELECT w.product_id, w.quantity
    FROM unnest(:'product_ids'::bigint[], :'quantities'::integer[]) AS w (product_id, quantity)
),

-- Locks in id order prevent deadlocks between purchases. After waiting, a purchase sees the row as the other one left it.
locked AS (
    SELECT id, name, price, stock
    FROM products
    WHERE id = any(:'product_ids'::bigint[]) AND deleted_at IS NULL
    ORDER BY id
    FOR UPDATE
),

-- One row if everything is available; otherwise none, and nothing below is written.
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

-- Keeps the name and price of this moment.
details AS (
    INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity)
    SELECT i.id AS invoice_id, l.id AS product_id, l.name, l.price, w.quantity
    FROM invoice AS i
    CROSS JOIN locked AS l
    INNER JOIN wanted AS w ON l.id = w.product_id
    ORDER BY l.id
    RETURNING product_id, quantity, line_total, credited, restocked
),

-- stock_cause() gives the invoice to the ledger. The new stock is computed from the locked row: p may still show the stock as it was
-- when the statement began.
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
