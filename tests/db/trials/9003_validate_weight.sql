-- Validates the check of weights that 9002 added.
--
-- Locks: SHARE UPDATE EXCLUSIVE on products while it reads every row; nobody waits for it.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/9003_validate_weight.sql
ALTER TABLE products VALIDATE CONSTRAINT products_trial_weight_range;

INSERT INTO schema_version (version, name, safe) VALUES (9003, 'validate_weight', true);
