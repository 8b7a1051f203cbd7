-- Erases what is personal of an account, if its hash is still the one that was read, and ends its logins; the id, or no row.
--
--   user_id       bigint  the account
--   old_password  text    hash it must still have
--
-- One step of an erasure: run it between BEGIN and COMMIT with delete_sessions, delete_keys, erase_addresses and erase_reasons, or ROLLBACK.
--
-- Locks: the row of the account.
-- psql -v user_id=1 -v old_password='$argon2id$old' -f sql/queries/users/erase_user.sql
UPDATE users
SET
    email = NULL,
    password = NULL,
    role = 'user',
    active = false,
    token_version = token_version + 1,
    erased_at = now()
WHERE id = :'user_id'::bigint AND password = :'old_password'::text
RETURNING id;
