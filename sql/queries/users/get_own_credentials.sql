-- Email and password hash of an account, to check the current password of its owner; no row if it is erased.
--
--   user_id  bigint  the account
--
-- Locks: none.
-- psql -v user_id=1 -f sql/queries/users/get_own_credentials.sql
SELECT id, email, password
FROM users
WHERE id = :'user_id'::bigint AND erased_at IS NULL;
