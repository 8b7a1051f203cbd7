-- Changes the role of an account, or enables or disables it, which ends its sessions; no row if it is erased or does not exist.
--
--   user_id  bigint   the account
--   role     text     user or admin; NULL (empty in psql) leaves it
--   active   boolean  whether it may log in; NULL (empty in psql) leaves it
--
-- Locks: users, the row of the account.
-- psql -v user_id=1 -v role=admin -v active= -f sql/queries/users/update_user.sql
UPDATE users
SET
    role = coalesce(nullif(:'role'::text, ''), role),
    active = coalesce(nullif(:'active'::text, '')::boolean, active),
    token_version = token_version + (active AND NOT coalesce(nullif(:'active'::text, '')::boolean, true))::integer
WHERE id = :'user_id'::bigint AND erased_at IS NULL
RETURNING id, email, role, active, created_at;
