-- The profile of one account; no row if it is erased.
--
--   user_id  bigint  the account
--
-- Locks: none.
-- psql -v user_id=1 -f sql/queries/users/get_user.sql
SELECT id, email, role, created_at
FROM users
WHERE id = :'user_id'::bigint AND erased_at IS NULL;
