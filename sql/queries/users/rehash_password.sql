-- Stores a stronger hash of the same password, unless the password was changed meanwhile; returns the id, or no row.
--
--   user_id       bigint  the account
--   old_password  text    the hash that was read before, which must still be stored
--   password      text    new Argon2id hash (PHC string)
--
-- Locks: users, the row of the account.
-- psql -v user_id=1 -v old_password='$argon2id$old' -v password='$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA' -f sql/queries/users/rehash_password.sql
UPDATE users
SET password = :'password'::text
WHERE id = :'user_id'::bigint AND password = :'old_password'::text
RETURNING id;
