-- Blocks the shop: a default that differs from row to row writes the whole table anew.
--
-- Locks: ACCESS EXCLUSIVE on products, for seconds.
-- Rewrites: products.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/9011_rewrite_products.sql
ALTER TABLE products ADD COLUMN tracking uuid NOT NULL DEFAULT gen_random_uuid();

INSERT INTO schema_version (version, name, safe) VALUES (9011, 'rewrite_products', true);
