-- Writes the check of emails in a form that a dump and restore keeps; 0008 validates it.
--
-- With BETWEEN, PostgreSQL prints other parentheses after a restore, which would look like a change.
--
-- Locks: ACCESS EXCLUSIVE on users, for milliseconds: the rows are not checked here.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/0007_rewrite_email_check.sql
ALTER TABLE users
-- The next line adds it again.
-- squawk-ignore ban-drop-constraint
DROP CONSTRAINT users_email_form,
ADD CONSTRAINT users_email_form
CHECK (char_length(email) >= 3 AND char_length(email) <= 254 AND email LIKE '_%@_%') NOT VALID;
COMMENT ON CONSTRAINT users_email_form ON users
IS 'A minimal check; 254 characters is the limit of RFC 5321. The service checks the rest.';

INSERT INTO schema_version (version, name, safe) VALUES (7, 'rewrite_email_check', true);
