-- Adds a credit note, which gets its number; its lines must follow in the same transaction, by create_credit_note_lines.
--
--   invoice_id  bigint  the invoice, locked before by lock_invoice
--   actor_id    bigint  who makes it
--   reason      text    at most 500 characters; NULL (empty in psql) for none
--
-- One step of a credit note: run it between BEGIN and COMMIT with the others, or ROLLBACK.
--
-- Locks: the new row; the rows it refers to against deletion; the year's row of number_series until the transaction ends: so do it last.
-- psql -v invoice_id=1 -v actor_id=1 -v reason= -f sql/queries/invoices/create_credit_note.sql
INSERT INTO credit_notes (invoice_id, actor_id, reason)
VALUES (:'invoice_id'::bigint, :'actor_id'::bigint, nullif(:'reason'::text, ''))
RETURNING id;
