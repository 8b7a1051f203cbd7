-- Erases the reasons that a customer gave when cancelling their own invoices.
--
--   user_id  bigint  the customer
--
-- Locks: invoice_events, the rows with a reason.
-- psql -v user_id=1 -f sql/queries/invoices/erase_reasons.sql
UPDATE invoice_events AS e
SET reason = NULL
FROM invoices AS i
WHERE i.user_id = :'user_id'::bigint AND e.invoice_id = i.id AND e.actor_id = i.user_id AND e.reason IS NOT NULL;
