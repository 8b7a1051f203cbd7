-- The credit notes of these invoices, oldest first, without their lines.
--
--   invoice_ids  bigint[]  the invoices
--
-- Locks: none.
-- psql -v invoice_ids='{1}' -f sql/queries/credit_notes/list_credit_notes.sql
SELECT
    c.id,
    c.number,
    c.invoice_id,
    (
        SELECT sum(d.unit_price * l.quantity)
        FROM credit_note_lines AS l
        INNER JOIN invoice_details AS d ON l.invoice_id = d.invoice_id AND l.product_id = d.product_id
        WHERE l.credit_note_id = c.id
    ) AS total,
    (SELECT shop.currency FROM shop) AS currency,
    c.actor_id,
    c.reason,
    c.created_at
FROM credit_notes AS c
WHERE c.invoice_id = any(:'invoice_ids'::bigint[])
ORDER BY c.id;
