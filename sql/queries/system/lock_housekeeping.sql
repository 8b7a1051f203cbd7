-- Tries to take the housekeeping lock until the transaction ends; false if another process has it.
--
-- Parameters: none.
-- Locks: the advisory lock of housekeeping, without waiting for it.
-- psql -f sql/queries/system/lock_housekeeping.sql
SELECT pg_try_advisory_xact_lock(hashtext('petstore housekeeping'));
