-- The account with this email, compared without regard to case, as admins see it.
--
--   email  text  address as typed
--
-- Locks: none.
-- psql -v email=Ana@example.com -f sql/queries/users/find_user.sql
SELECT id, email, role, active, created_at
FROM users
WHERE lower(normalize(email)) = lower(normalize(:'email'::text));
