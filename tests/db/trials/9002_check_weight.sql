-- Rejects weights that cannot be; 9003 validates it for the rows that are there.
--
-- Locks: ACCESS EXCLUSIVE on products, for milliseconds: the rows are not checked here.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/9002_check_weight.sql
ALTER TABLE products ADD CONSTRAINT products_trial_weight_range CHECK (trial_weight >= 0 AND trial_weight <= 1000000) NOT VALID;
COMMENT ON CONSTRAINT products_trial_weight_range ON products IS 'At most a ton.';

INSERT INTO schema_version (version, name, safe) VALUES (9002, 'check_weight', true);
