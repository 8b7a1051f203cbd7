-- The normalised form of an email, as the index users_email_key compares it.
--
--   email  text  address as typed
--
-- Locks: none.
-- psql -v email=Ana@example.com -f sql/queries/users/get_email_key.sql
SELECT lower(normalize(:'email'::text)) AS email_key;
