-- Sets a new password and ends all sessions of the account, unless the password was changed meanwhile; returns the id, or no row.
--
--   user_id       bigint  the account
--   old_password  text    the hash that was read before, which must still be stored
--   password      text    Argon2id hash of the new password (PHC string)
--
-- Locks: users, the row of the account.
-- psql -v user_id=1 -v old_password='$argon2id$old' -v password='$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA' -f sql/queries/users/change_password.sql
UPDATE users
SET password = :'password'::text, token_version = token_version + 1
WHERE id = :'user_id'::bigint AND password = :'old_password'::text
RETURNING id;
