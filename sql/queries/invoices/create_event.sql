-- Writes down a change of status; whether it restocks is what the transition says, unless it is told not to.
--
--   invoice_id   bigint   the invoice, locked before by lock_invoice
--   from_status  text     state it leaves
--   to_status    text     state it enters
--   actor_id     bigint   the user who asked for it
--   restock      boolean  false keeps the goods out of stock
--   reason       text     in the words of who asked, at most 500 characters; NULL (empty in psql) for none
--
-- One step of a change of status: run it between BEGIN and COMMIT with the others, or ROLLBACK.
--
-- Locks: the new row; the rows it refers to against deletion.
-- psql -v invoice_id=1 -v from_status=pending -v to_status=paid -v actor_id=1 -v restock=true -v reason= -f sql/queries/invoices/create_event.sql
INSERT INTO invoice_events (invoice_id, from_status, to_status, actor_id, restocked, reason)
SELECT
    :'invoice_id'::bigint,
    t.from_status,
    t.to_status,
    :'actor_id'::bigint,
    t.restocks AND :'restock'::boolean,
    nullif(:'reason'::text, '')
FROM invoice_transitions AS t
WHERE t.from_status = :'from_status'::text AND t.to_status = :'to_status'::text
RETURNING restocked;
