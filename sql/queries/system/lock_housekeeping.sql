-- Tries to take the housekeeping lock until the transaction ends; false if another process has it.
--
-- Parameters: none.
-- Locks: an advisory lock of this database, without waiting for it.
-- psql -f sql/queries/system/lock_housekeeping.sql
SELECT pg_try_advisory_xact_lock(hashtext('petstore housekeeping'));
