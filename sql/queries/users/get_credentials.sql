-- The account with this email, compared without regard to case, with the password hash that a login is checked against.
--
--   email  text  address as typed
--
-- Locks: none.
-- psql -v email=Ana@example.com -f sql/queries/users/get_credentials.sql
SELECT id, email, password
FROM users
WHERE lower(normalize(email)) = lower(normalize(:'email'::text));
