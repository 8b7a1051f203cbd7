-- Reserves an idempotency key for the current transaction; no row if the key is in use or was used in the last 24 hours (see get_answer).
--
--   user_id      bigint  owner of the key
--   route        text    method and route, such as POST /purchase_product
--   key          text    the key, as sent by the client
--   fingerprint  bytea   SHA-256 of the request
--
-- A key older than 24 hours counts as new. While another transaction has the key, pg_try_advisory_xact_lock fails at once, so
-- that no connection waits here. The lock only avoids that wait; the primary key of the table decides.
--
-- Locks: an advisory lock on the key until the transaction ends, without waiting for it; idempotency_keys, the row, if it
-- is there. Adds a row to idempotency_keys.
-- psql -v user_id=1 -v route='POST /purchase_product' -v key=k1 -v fingerprint='\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' -f sql/queries/idempotency/claim_key.sql
INSERT INTO idempotency_keys AS k (user_id, route, key, fingerprint)
SELECT :'user_id'::bigint, :'route'::text, :'key'::text, :'fingerprint'::bytea
WHERE pg_try_advisory_xact_lock(hashtextextended(concat_ws(' ', :'user_id'::bigint, :'route'::text, :'key'::text), 0))
ON CONFLICT (user_id, route, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, status = NULL, location = NULL, body = NULL, created_at = now()
    WHERE k.created_at < now() - interval '24 hours'
RETURNING k.user_id;
