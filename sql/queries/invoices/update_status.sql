-- Moves an invoice from one state to another; does nothing when it is no longer in the first.
--
--   invoice_id   bigint  the invoice
--   from_status  text    state it must be in
--   to_status    text    state it enters
--   number       text    the number it gets on becoming paid, from take_number; NULL (empty in psql) leaves it
--
-- Locks: the row of the invoice.
-- psql -v invoice_id=1 -v from_status=pending -v to_status=cancelled -v number= -f sql/queries/invoices/update_status.sql
UPDATE invoices
SET status = :'to_status'::text, number = coalesce(nullif(:'number'::text, ''), number)
WHERE id = :'invoice_id'::bigint AND status = :'from_status'::text;
