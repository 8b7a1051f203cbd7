-- Stores a refusal (4xx) with its idempotency key, in the transaction of the request.
--
--   user_id  bigint   owner of the key
--   route    text     method and route, such as POST /purchase_product
--   key      text     the key, reserved before by claim_key
--   status   integer  HTTP status
--   short    bytea    the refusal in short, as the comment on the column body says
--   body     bytea    body of the response
--
-- Below schema version 13 the body itself is stored: releases that do not know the short form may still serve then.
--
-- Locks: idempotency_keys, the row.
-- psql -v user_id=1 -v route='POST /purchase_product' -v key=k1 -v status=409 -v short='["not-enough-stock","0fa2c1be",[3]]' -v body='{}' -f sql/queries/idempotency/save_refusal.sql
UPDATE idempotency_keys
SET
    status = :'status'::integer,
    body = CASE WHEN (SELECT max(v.version) FROM schema_version AS v) >= 13 THEN :'short'::bytea ELSE :'body'::bytea END
WHERE user_id = :'user_id'::bigint AND route = :'route'::text AND key = :'key'::text;
