-- Records a change of an invoice's status.
--
--   invoice_id   bigint   the invoice, locked before by lock_invoice
--   from_status  text     status before the change
--   to_status    text     status after the change
--   actor_id     bigint   the user who asked for the change
--   restocked    boolean  whether the goods went back into stock
--   reason       text     reason given by the actor, at most 500 characters; NULL (empty in psql) for none
--
-- One step of a change of status: run it in one transaction with the other steps.
--
-- Locks: users and invoices, the rows that it refers to, FOR KEY SHARE. Adds a row to invoice_events.
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
