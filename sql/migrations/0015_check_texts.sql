-- Lets nobody write a reason that cannot be read, or an invoice with a name that cannot.
-- no transaction
--
-- What is written stays as it is, so these checks stay NOT VALID, in every database: they are for new rows. Of the old ones only counters
-- of invoice lines change, which that check lets pass, and reasons that are erased.
--
-- Locks: ACCESS EXCLUSIVE on invoice_details, invoice_events, credit_notes, stock_movements, one after the other, for milliseconds: the
--   rows are not checked.
-- Rewrites: nothing.
-- Safe: yes
-- psql -v ON_ERROR_STOP=1 -f sql/migrations/0015_check_texts.sql
ALTER TABLE invoice_details
-- An interrupted run may have left it; the next line adds it again.
-- squawk-ignore ban-drop-constraint
DROP CONSTRAINT IF EXISTS invoice_details_name_readable,
ADD CONSTRAINT invoice_details_name_readable
CHECK (credited > 0 OR restocked > 0 OR is_line(name)) NOT VALID;
COMMENT ON CONSTRAINT invoice_details_name_readable ON invoice_details
IS 'As is_line() has it, when the line is written; later only its counters change. '
'NOT VALID, since names from before the rule stay.';

ALTER TABLE invoice_events
-- An interrupted run may have left it; the next line adds it again.
-- squawk-ignore ban-drop-constraint
DROP CONSTRAINT IF EXISTS invoice_events_reason_readable,
ADD CONSTRAINT invoice_events_reason_readable
CHECK (is_line(translate(reason, chr(9) || chr(10), '  '))) NOT VALID;
COMMENT ON CONSTRAINT invoice_events_reason_readable ON invoice_events
IS 'As is_line() has it, also with line feeds and tabs. '
'NOT VALID, since reasons from before the rule stay.';

ALTER TABLE credit_notes
-- An interrupted run may have left it; the next line adds it again.
-- squawk-ignore ban-drop-constraint
DROP CONSTRAINT IF EXISTS credit_notes_reason_readable,
ADD CONSTRAINT credit_notes_reason_readable
CHECK (is_line(translate(reason, chr(9) || chr(10), '  '))) NOT VALID;
COMMENT ON CONSTRAINT credit_notes_reason_readable ON credit_notes
IS 'As is_line() has it, also with line feeds and tabs. '
'NOT VALID, since reasons from before the rule stay.';

ALTER TABLE stock_movements
-- An interrupted run may have left it; the next line adds it again.
-- squawk-ignore ban-drop-constraint
DROP CONSTRAINT IF EXISTS stock_movements_reason_readable,
ADD CONSTRAINT stock_movements_reason_readable
CHECK (is_line(translate(reason, chr(9) || chr(10), '  '))) NOT VALID;
COMMENT ON CONSTRAINT stock_movements_reason_readable ON stock_movements
IS 'As is_line() has it, also with line feeds and tabs. '
'NOT VALID, since reasons from before the rule stay.';

INSERT INTO schema_version (version, name, safe) VALUES (15, 'check_texts', true);
