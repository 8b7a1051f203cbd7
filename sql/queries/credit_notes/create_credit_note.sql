-- Adds a credit note and assigns its number; create_credit_note_lines must follow in the same transaction.
--
--   invoice_id  bigint  the invoice, locked before by lock_invoice
--   actor_id    bigint  the user who makes it
--   reason      text    at most 500 characters; NULL (empty in psql) for none
--
-- One step of a credit note: run it in one transaction with the other steps.
--
-- Locks: users and invoices, the rows that it refers to, FOR KEY SHARE; number_series, the row of the year until the transaction ends,
-- so run it late. Adds a row to credit_notes.
-- psql -v invoice_id=1 -v actor_id=1 -v reason= -f sql/queries/credit_notes/create_credit_note.sql
INSERT INTO credit_notes (invoice_id, actor_id, reason)
VALUES (:'invoice_id'::bigint, :'actor_id'::bigint, nullif(:'reason'::text, ''))
RETURNING id;
