-- Seconds until an account may claim an idempotency key again, if it has more than a number of live ones; no row if it has not.
--
--   user_id  bigint  owner of the keys
--   most     bigint  live keys that it may have, the newest one included
--
-- A key lives for 24 hours. The newest one is that of the transaction that asks, which is rolled back if there is a row. Keys of one
-- transaction count once: one that came in quotes is stored with them and without.
--
-- Locks: none.
-- psql -v user_id=1 -v most=10000 -f sql/queries/idempotency/get_wait.sql
WITH live AS MATERIALIZED ( -- inlined, the keys of all accounts could be read in the order of their age
    SELECT DISTINCT created_at
    FROM idempotency_keys
    WHERE user_id = :'user_id'::bigint AND created_at >= now() - interval '24 hours'
)

SELECT ceil(extract(EPOCH FROM l.created_at + interval '24 hours' - now()))::integer AS seconds
FROM live AS l
ORDER BY l.created_at DESC
LIMIT 1 OFFSET :'most'::bigint;
