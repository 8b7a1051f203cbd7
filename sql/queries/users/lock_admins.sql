-- Locks every active admin, so that of two who leave at once the second sees that the first has gone; their ids.
--
-- Parameters: none.
--
-- One step of a demotion, disabling or erasure: run it between BEGIN and COMMIT with the others, or ROLLBACK.
--
-- Locks: the rows of the admins, FOR NO KEY UPDATE, in id order.
-- psql -f sql/queries/users/lock_admins.sql
SELECT array(
    SELECT u.id FROM users AS u
    WHERE u.role = 'admin' AND u.active
    ORDER BY u.id
    FOR NO KEY UPDATE
) AS ids;
