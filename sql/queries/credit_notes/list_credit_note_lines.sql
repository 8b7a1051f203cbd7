-- The lines of all credit notes of these invoices, with name and price at the time of purchase.
--
--   invoice_ids  bigint[]  the invoices
--
-- Locks: none.
-- psql -v invoice_ids='{1}' -f sql/queries/credit_notes/list_credit_note_lines.sql
SELECT
    l.credit_note_id,
    l.product_id,
    d.name,
    d.unit_price,
    l.quantity,
    d.unit_price * l.quantity AS line_total,
    l.restock
FROM credit_notes AS c
INNER JOIN credit_note_lines AS l ON c.id = l.credit_note_id
INNER JOIN invoice_details AS d ON l.invoice_id = d.invoice_id AND l.product_id = d.product_id
WHERE c.invoice_id = any(:'invoice_ids'::bigint[])
ORDER BY l.credit_note_id ASC, l.product_id ASC, l.restock DESC;
