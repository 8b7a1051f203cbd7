-- One page of the accounts, in id order, without erased ones.
--
--   after  bigint   last id of the previous page; 0 for the first page
--   limit  integer  maximum number of rows
--
-- Locks: none.
-- psql -v after=0 -v limit=50 -f sql/queries/users/list_users.sql
SELECT id, email, role, active, created_at
FROM users
WHERE erased_at IS NULL AND id > :'after'::bigint
ORDER BY id
LIMIT :'limit'::integer;
