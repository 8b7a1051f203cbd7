-- Locks all active admins and returns their ids, so that of two admins who leave at the same time, the second sees that the first has left.
--
-- Parameters: none.
--
-- One step of a demotion, disabling or erasure: run it in one transaction with the other steps.
--
-- Locks: the rows of the admins, FOR NO KEY UPDATE, in id order.
-- psql -f sql/queries/users/lock_admins.sql
SELECT array(
    SELECT u.id FROM users AS u
    WHERE u.role = 'admin' AND u.active
    ORDER BY u.id
    FOR NO KEY UPDATE
) AS ids;
