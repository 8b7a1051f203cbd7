-- Deletes idempotency keys older than 24 hours, at most 1,000 per run, only to keep the table small.
--
-- Parameters: none.
-- Locks: idempotency_keys, the rows that it deletes; it skips those that others have locked.
-- psql -f sql/queries/idempotency/purge_keys.sql
WITH old AS MATERIALIZED ( -- inlined, it could run several times, find other rows each time, and delete more than the limit
    SELECT user_id, route, key
    FROM idempotency_keys
    WHERE created_at < now() - interval '24 hours'
    ORDER BY created_at
    LIMIT 1000
    FOR UPDATE SKIP LOCKED
)

DELETE FROM idempotency_keys AS k
USING old
WHERE k.user_id = old.user_id AND k.route = old.route AND k.key = old.key;
