-- Lets refusals be stored in short with their idempotency keys: from this version on the service writes what the comment says.
--
-- Not safe: a release that does not know the short form would answer it as it is. Rows that are there stay, and are answered as before.
--
-- Locks: SHARE UPDATE EXCLUSIVE on idempotency_keys, for milliseconds.
-- Rewrites: nothing.
-- Safe: no
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/0013_shorten_refusals.sql
COMMENT ON COLUMN idempotency_keys.body
IS 'Body of the response. Of a refusal (status 4xx) that the request and some facts tell, a JSON array: slug, request id, facts; '
'over 1,000 bytes it is deflated (zlib; the first byte is x).';

INSERT INTO schema_version (version, name, safe) VALUES (13, 'shorten_refusals', false);
