-- Adds an account; an email that exists already, in upper or lower case, violates users_email_key.
--
--   email     text  address as typed, at most 254 characters
--   password  text  Argon2id hash (PHC string), never the password itself
--
-- Locks: none. Adds a row to users, which waits for another one with the same email.
-- psql -v email=new@example.com -v password='$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA' -f sql/queries/users/create_user.sql
INSERT INTO users (email, password)
VALUES (:'email'::text, :'password'::text)
RETURNING id, email, role, created_at;
