-- Takes an idempotency key for this transaction; no row when it is taken: then get_answer has the answer that was given, if it was.
--
--   user_id      bigint  who asks
--   route        text    method and route, such as POST /purchase_product
--   key          text    the key, as the client sent it
--   fingerprint  bytea   SHA-256 of the request
--
-- A key older than 24 hours is taken as if it were new. Nobody waits here with a connection in hand: while another transaction has
-- the key, the advisory lock refuses at once. The row decides; the lock only spares the wait for it.
--
-- Locks: the row of the key; an advisory lock of the same, until the transaction ends.
-- psql -v user_id=1 -v route='POST /purchase_product' -v key=k1 -v fingerprint='\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' -f sql/queries/idempotency/claim_key.sql
INSERT INTO idempotency_keys AS k (user_id, route, key, fingerprint)
SELECT :'user_id'::bigint, :'route'::text, :'key'::text, :'fingerprint'::bytea
WHERE pg_try_advisory_xact_lock(hashtextextended(concat_ws(' ', :'user_id'::bigint, :'route'::text, :'key'::text), 0))
ON CONFLICT (user_id, route, key) DO UPDATE
    SET fingerprint = excluded.fingerprint, status = NULL, location = NULL, body = NULL, created_at = now()
    WHERE k.created_at < now() - interval '24 hours'
RETURNING k.user_id;
