-- Stores the response to a request with its idempotency key, in the transaction of the request.
--
--   user_id   bigint   owner of the key
--   route     text     method and route, such as POST /purchase_product
--   key       text     the key, reserved before by claim_key
--   status    integer  HTTP status
--   location  text     Location header; NULL (empty in psql) for none
--   body      bytea    body of the response
--
-- Locks: idempotency_keys, the row.
-- psql -v user_id=1 -v route='POST /purchase_product' -v key=k1 -v status=201 -v location=/invoices/1 -v body='{}' -f sql/queries/idempotency/save_answer.sql
UPDATE idempotency_keys
SET status = :'status'::integer, location = nullif(:'location'::text, ''), body = :'body'::bytea
WHERE user_id = :'user_id'::bigint AND route = :'route'::text AND key = :'key'::text;
