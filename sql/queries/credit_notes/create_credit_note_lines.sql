-- Adds the lines of a credit note; crediting more pieces than were bought violates invoice_details_credited_range.
--
--   credit_note_id  bigint     the credit note
--   invoice_id      bigint     its invoice
--   product_ids     bigint[]   the products
--   quantities      integer[]  pieces of each, in the same order
--   restocks        boolean[]  whether they go back into stock, in the same order
--
-- One step of a credit note: run it in one transaction with the other steps.
--
-- Locks: invoice_details, the lines of the invoice. Adds rows to credit_note_lines.
-- psql -v credit_note_id=1 -v invoice_id=1 -v product_ids='{1}' -v quantities='{1}' -v restocks='{false}' -f sql/queries/credit_notes/create_credit_note_lines.sql
INSERT INTO credit_note_lines (credit_note_id, invoice_id, product_id, quantity, restock)
SELECT
    :'credit_note_id'::bigint,
    :'invoice_id'::bigint,
    w.product_id,
    w.quantity,
    w.restock
FROM unnest(:'product_ids'::bigint[], :'quantities'::integer[], :'restocks'::boolean[]) AS w (product_id, quantity, restock);
