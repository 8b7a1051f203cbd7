-- Replaces the trigger that writes the ledger of every purchase; it does what it did before.
--
-- Locks: SHARE ROW EXCLUSIVE on products, for milliseconds.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/9008_replace_stock_trigger.sql
CREATE OR REPLACE TRIGGER products_update_record_stock AFTER UPDATE ON products
REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows
FOR EACH STATEMENT EXECUTE FUNCTION record_stock();

INSERT INTO schema_version (version, name, safe) VALUES (9008, 'replace_stock_trigger', true);
