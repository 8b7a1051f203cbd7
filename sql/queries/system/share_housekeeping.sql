-- Waits until no batch of housekeeping runs, and keeps the next one out until the transaction ends.
--
-- Parameters: none.
--
-- One step of an erasure, its first: both delete many rows of the same tables, each in an order of its own.
--
-- Locks: the advisory lock of housekeeping, shared.
-- psql -f sql/queries/system/share_housekeeping.sql
SELECT pg_advisory_xact_lock_shared(hashtext('petstore housekeeping'));
