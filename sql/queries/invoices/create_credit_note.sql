-- Adds a credit note and assigns its number; create_credit_note_lines must follow in the same transaction.
--
--   invoice_id  bigint  the invoice, locked before by lock_invoice
--   actor_id    bigint  the user who makes it
--   reason      text    at most 500 characters; NULL (empty in psql) for none
--
-- One step of a credit note: run it in one transaction with the other steps.
--
-- Locks: the new row; the rows that it references, FOR KEY SHARE; the row of the year in number_series until the transaction ends, so run it late.
-- psql -v invoice_id=1 -v actor_id=1 -v reason= -f sql/queries/invoices/create_credit_note.sql
INSERT INTO credit_notes (invoice_id, actor_id, reason)
VALUES (:'invoice_id'::bigint, :'actor_id'::bigint, nullif(:'reason'::text, ''))
RETURNING id;
