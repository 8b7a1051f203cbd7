-- Adds the lines of an invoice, with name and price as they are at this moment.
--
--   invoice_id   bigint     the invoice
--   product_ids  bigint[]   the products, each once, locked before by lock_products
--   quantities   integer[]  pieces of each, in the same order
--
-- One step of a purchase: run it between BEGIN and COMMIT with the others, or ROLLBACK.
--
-- Locks: the new rows; the rows they refer to against deletion.
-- psql -v invoice_id=1 -v product_ids='{3,4}' -v quantities='{3,1}' -f sql/queries/purchases/create_invoice_details.sql
INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity)
SELECT
    :'invoice_id'::bigint,
    p.id,
    p.name,
    p.price,
    w.quantity
FROM unnest(:'product_ids'::bigint[], :'quantities'::integer[]) AS w (product_id, quantity)
INNER JOIN products AS p ON w.product_id = p.id
ORDER BY p.id
RETURNING invoice_id, product_id, name, unit_price, quantity, line_total, credited, restocked;
