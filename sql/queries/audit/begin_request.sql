-- Comes first in each transaction of the service that writes: tells the audit log who asks, and from where.
--
--   actor_id  bigint  the user; NULL (empty in psql) for one who has not logged in
--   address   text    the client's address, such as 192.0.2.7; NULL (empty in psql) when it is not known
--
-- Good until the transaction ends. Refused (users_actor_active) when the account is erased or blocked.
--
-- Locks: the actor's row against deletion.
-- psql -v actor_id=1 -v address=192.0.2.7 -f sql/queries/audit/begin_request.sql
SELECT FROM begin_request(
    jsonb_build_object('actor_id', nullif(:'actor_id'::text, '')::bigint, 'address', nullif(:'address'::text, ''))
);
