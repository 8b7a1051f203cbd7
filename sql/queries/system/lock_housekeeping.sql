-- Takes the lock of housekeeping until the transaction ends; false when another process, of this node or of any other, has it.
--
-- Parameters: none.
-- Locks: an advisory lock of this database, without waiting for it.
-- psql -f sql/queries/system/lock_housekeeping.sql
SELECT pg_try_advisory_xact_lock(hashtext('petstore housekeeping'));
