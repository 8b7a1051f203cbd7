-- Blocks the shop: an index that is not made CONCURRENTLY lets nobody write meanwhile.
--
-- Locks: SHARE on invoice_details, for seconds.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/9012_index_details.sql
CREATE INDEX invoice_details_by_name ON invoice_details (lower(normalize(name)), unit_price, product_id);

INSERT INTO schema_version (version, name, safe) VALUES (9012, 'index_details', true);
