-- Locks all active admins and returns their ids, so that of two admins who leave at the same time, the second sees that the first has left.
--
-- Parameters: none.
--
-- One step of the change of somebody's account, or of an erasure: run it before begin_request, in one transaction with the other steps.
--
-- Locks: users, the rows of the active admins in id order, FOR NO KEY UPDATE.
-- psql -f sql/queries/users/lock_admins.sql
SELECT array(
    SELECT u.id FROM users AS u
    WHERE u.role = 'admin' AND u.active
    ORDER BY u.id
    FOR NO KEY UPDATE
) AS ids;
