-- Validates the foreign key that 9004 added.
--
-- Locks: SHARE UPDATE EXCLUSIVE and ROW SHARE on products while it reads every row; nobody waits for it.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/9005_validate_replacement.sql
ALTER TABLE products VALIDATE CONSTRAINT products_trial_replacement_id_fkey;

INSERT INTO schema_version (version, name, safe) VALUES (9005, 'validate_replacement', true);
