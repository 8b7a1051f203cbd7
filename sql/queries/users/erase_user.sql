-- Removes the personal data of an account and ends its sessions, unless the password was changed meanwhile; returns the id, or no row.
--
--   user_id       bigint  the account
--   old_password  text    the hash that was read before, which must still be stored
--
-- One step of an erasure: in one transaction, run lock_user; delete_sessions, delete_keys and erase_reasons; this; and erase_addresses.
-- erased_at is the moment at which this runs. Whatever the account did before was committed by then, or waits for lock_user and is
-- refused; a logout needs no lock of the account, but a session, and there is none any more.
--
-- Locks: users, the row of the account.
-- psql -v user_id=1 -v old_password='$argon2id$old' -f sql/queries/users/erase_user.sql
UPDATE users
SET
    email = NULL,
    password = NULL,
    role = 'user',
    active = false,
    token_version = token_version + 1,
    erased_at = clock_timestamp()
WHERE id = :'user_id'::bigint AND password = :'old_password'::text
RETURNING id;
