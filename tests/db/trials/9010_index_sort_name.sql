-- Adds an index for lists of products in alphabetical order.
-- no transaction
--
-- Locks: SHARE UPDATE EXCLUSIVE on products while it reads every row; nobody waits for it.
-- Rewrites: nothing.
-- Safe: yes
-- psql -v ON_ERROR_STOP=1 -f sql/migrations/9010_index_sort_name.sql
DROP INDEX CONCURRENTLY IF EXISTS products_by_trial_sort_name;
CREATE INDEX CONCURRENTLY products_by_trial_sort_name ON products (trial_sort_name, id) WHERE deleted_at IS NULL;
COMMENT ON INDEX products_by_trial_sort_name IS 'The catalogue in alphabetical order.';

INSERT INTO schema_version (version, name, safe) VALUES (9010, 'index_sort_name', true);
