-- Removes keys older than 24 hours, at most a thousand. Nothing depends on it but the size of the table.
--
-- Parameters: none.
-- Locks: the rows it removes; leaves alone what others are working on.
-- psql -f sql/queries/idempotency/purge_keys.sql
WITH old AS MATERIALIZED ( -- a plan that looked for them again and again would find other ones each time, and remove more
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
