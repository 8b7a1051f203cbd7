-- Lets a product name the one that replaces it; 9005 validates the foreign key.
--
-- Locks: ACCESS EXCLUSIVE on products, for milliseconds: the rows are not checked here.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/9004_refer_to_replacement.sql
ALTER TABLE products
ADD COLUMN trial_replacement_id bigint,
ADD CONSTRAINT products_trial_replacement_id_fkey FOREIGN KEY (trial_replacement_id) REFERENCES products NOT VALID;
COMMENT ON COLUMN products.trial_replacement_id IS 'The product that is sold instead; NULL if there is none.';
GRANT INSERT (trial_replacement_id), UPDATE (trial_replacement_id) ON products TO petstore_app;

INSERT INTO schema_version (version, name, safe) VALUES (9004, 'refer_to_replacement', true);
