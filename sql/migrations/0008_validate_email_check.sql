-- Validates the check of emails that 0007 wrote.
--
-- Locks: SHARE UPDATE EXCLUSIVE on users while it reads every row; nobody waits for it.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/0008_validate_email_check.sql
ALTER TABLE users VALIDATE CONSTRAINT users_email_form;

INSERT INTO schema_version (version, name, safe) VALUES (8, 'validate_email_check', true);
