-- Adds an admin, or makes the account with this email an active admin with this password and ends its sessions.
--
--   email     text  address; an existing account keeps its own spelling
--   password  text  Argon2id hash (PHC string), never the password itself
--
-- Locks: users, the row of the account, if it is there.
-- psql -v email=boss@example.com -v password='$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA' -f sql/queries/users/save_admin.sql
INSERT INTO users AS u (email, password, role)
VALUES (:'email'::text, :'password'::text, 'admin')
ON CONFLICT (lower(normalize(email))) DO UPDATE
    SET password = excluded.password, role = 'admin', active = true, token_version = u.token_version + 1
RETURNING id, email, role, created_at;
