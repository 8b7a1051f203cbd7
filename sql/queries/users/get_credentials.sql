-- What a login is checked against: the account with this email, in whatever case it is typed.
--
--   email  text  address as typed
--
-- Locks: none.
-- psql -v email=Ana@example.com -f sql/queries/users/get_credentials.sql
SELECT id, email, password
FROM users
WHERE lower(normalize(email)) = lower(normalize(:'email'::text));
