-- Writes down a change of status.
--
--   invoice_id   bigint   the invoice, locked before by lock_invoice
--   from_status  text     state it leaves
--   to_status    text     state it enters
--   actor_id     bigint   the user who asked for it
--   restocked    boolean  whether goods went back into stock with it
--   reason       text     in the words of who asked, at most 500 characters; NULL (empty in psql) for none
--
-- One step of a change of status: run it between BEGIN and COMMIT with the others, or ROLLBACK.
--
-- Locks: the new row; the rows it refers to against deletion.
-- psql -v invoice_id=1 -v from_status=pending -v to_status=paid -v actor_id=1 -v restocked=false -v reason= -f sql/queries/invoices/create_event.sql
INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked, reason)
VALUES (
    :'invoice_id'::bigint,
    :'from_status'::text,
    :'to_status'::text,
    :'actor_id'::bigint,
    :'restocked'::boolean,
    nullif(:'reason'::text, '')
);
