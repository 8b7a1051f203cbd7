-- Blocks the shop: a constraint that is not added NOT VALID reads every row under the strongest lock.
--
-- Locks: ACCESS EXCLUSIVE on invoice_details, for a second.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/9013_check_names.sql
ALTER TABLE invoice_details ADD CONSTRAINT invoice_details_name_printable
CHECK (name = normalize(name) AND name !~ '[[:cntrl:]]' AND name !~ '\s\s' AND lower(name) !~ '^(test|dummy)');

INSERT INTO schema_version (version, name, safe) VALUES (9013, 'check_names', true);
