-- Adds a credit note; its lines follow by create_credit_note_lines.
--
--   invoice_id  bigint  the invoice, locked before by lock_invoice
--   number      text    from take_number
--   actor_id    bigint  who makes it
--   reason      text    at most 500 characters; NULL (empty in psql) for none
--
-- Locks: the new row; the rows it refers to against deletion.
-- psql -v invoice_id=1 -v number=C2020-000001 -v actor_id=1 -v reason= -f sql/queries/invoices/create_credit_note.sql
INSERT INTO credit_notes (invoice_id, number, actor_id, reason)
VALUES (:'invoice_id'::bigint, :'number'::text, :'actor_id'::bigint, nullif(:'reason'::text, ''))
RETURNING id;
