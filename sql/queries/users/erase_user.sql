-- Removes the personal data of an account and ends its sessions, unless the password was changed meanwhile; returns the id, or no row.
--
--   user_id       bigint  the account
--   old_password  text    the hash that was read before, which must still be stored
--
-- One step of an erasure: run it in one transaction with delete_sessions, delete_keys, erase_addresses and erase_reasons.
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
