-- One account as admins see it; no row if it is erased.
--
--   user_id  bigint  the account
--
-- Locks: none.
-- psql -v user_id=1 -f sql/queries/users/get_account.sql
SELECT id, email, role, active, created_at
FROM users
WHERE id = :'user_id'::bigint AND erased_at IS NULL;
