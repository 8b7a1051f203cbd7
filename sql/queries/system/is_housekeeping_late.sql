-- Whether there is anything that housekeeping should have deleted more than an hour ago.
--
-- Each interval is that of the purge plus one hour. ORDER BY and LIMIT 1 make it read one index entry; EXISTS might scan the table.
--
-- Parameters: none.
-- Locks: none.
-- psql -f sql/queries/system/is_housekeeping_late.sql
SELECT
    (
        SELECT k.created_at FROM idempotency_keys AS k
        WHERE k.created_at < now() - interval '25 hours'
        ORDER BY k.created_at
        LIMIT 1
    ) IS NOT NULL
    OR (
        SELECT t.used_at FROM refresh_tokens AS t
        WHERE t.used_at < now() - interval '30 days 1 hour'
        ORDER BY t.used_at
        LIMIT 1
    ) IS NOT NULL
    OR (
        SELECT s.expires_at FROM sessions AS s
        WHERE s.expires_at < now() - interval '30 days 1 hour'
        ORDER BY s.expires_at
        LIMIT 1
    ) IS NOT NULL
    OR (
        SELECT a.created_at FROM audit_addresses AS a
        WHERE a.created_at < now() - interval '90 days 1 hour'
        ORDER BY a.created_at
        LIMIT 1
    ) IS NOT NULL AS late;
