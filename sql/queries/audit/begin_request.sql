-- Must run in each transaction of the service before it writes: sets the actor and the client address for the audit log.
--
-- Returns what the database is (../system/_identity.sql), so that the service knows at once when it is another one.
--
--   actor_id  bigint  the user; NULL (empty in psql) if nobody is logged in
--   address   text    client address, such as 192.0.2.7; NULL (empty in psql) if unknown
--
-- Valid until the transaction ends. Fails with users_actor_active if the account is erased or disabled. Only locks of rows of users that
-- are stronger than its own come before it.
--
-- Locks: users, the row of the actor, FOR KEY SHARE.
-- psql -v actor_id=1 -v address=192.0.2.7 -f sql/queries/audit/begin_request.sql
\ir ../system/_identity.sql
WITH told AS (
    SELECT :database_identity AS identity FROM shop
)

SELECT told.identity
FROM told
CROSS JOIN begin_request(
    jsonb_build_object('actor_id', nullif(:'actor_id'::text, '')::bigint, 'address', nullif(:'address'::text, ''))
);
