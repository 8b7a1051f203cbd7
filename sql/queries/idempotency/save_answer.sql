-- Keeps the answer of a request beside its key, in the transaction that does what it asks.
--
--   user_id   bigint   who asks
--   route     text     method and route
--   key       text     the key, taken before by claim_key
--   status    integer  HTTP status
--   location  text     Location header; NULL (empty in psql) for none
--   body      bytea    the bytes of the answer
--
-- Locks: the row of the key.
-- psql -v user_id=1 -v route='POST /purchase_product' -v key=k1 -v status=201 -v location=/invoices/1 -v body='{}' -f sql/queries/idempotency/save_answer.sql
UPDATE idempotency_keys
SET status = :'status'::integer, location = nullif(:'location'::text, ''), body = :'body'::bytea
WHERE user_id = :'user_id'::bigint AND route = :'route'::text AND key = :'key'::text;
