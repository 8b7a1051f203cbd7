-- Gives products a trial_weight and a name to sort by.
--
-- Locks: ACCESS EXCLUSIVE on products, for milliseconds: a constant default is kept in the catalogue, and no row is written.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/9001_add_product_columns.sql
ALTER TABLE products
ADD COLUMN trial_weight bigint NOT NULL DEFAULT 0,
ADD COLUMN trial_sort_name text;
COMMENT ON COLUMN products.trial_weight IS 'Grams of one piece; 0 if that is not known.';
COMMENT ON COLUMN products.trial_sort_name IS 'name in lower case, for lists in alphabetical order. Kept by a trigger.';
GRANT INSERT (trial_weight), UPDATE (trial_weight) ON products TO petstore_app;

INSERT INTO schema_version (version, name, safe) VALUES (9001, 'add_product_columns', true);
