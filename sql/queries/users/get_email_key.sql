-- The form in which an email is compared: what the index users_email_key holds.
--
--   email  text  address as typed
--
-- Locks: none.
-- psql -v email=Ana@example.com -f sql/queries/users/get_email_key.sql
SELECT lower(normalize(:'email'::text)) AS email_key;
