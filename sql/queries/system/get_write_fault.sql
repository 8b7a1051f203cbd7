-- Why writes cannot be done now: read-only, commits-wait (more than 4 COMMITs of this role are without an answer for 0.5 s), or NULL.
--
-- A COMMIT waits for a synchronous standby that is away, and keeps its backend also when its client has given up.
--
-- Parameters: none.
-- Locks: none.
-- psql -f sql/queries/system/get_write_fault.sql
SELECT
    CASE
        WHEN current_setting('transaction_read_only') = 'on' THEN 'read-only'
        WHEN
            (
                SELECT count(*)
                FROM pg_catalog.pg_stat_activity AS a
                WHERE
                    a.usename = current_user
                    AND a.datname = current_database()
                    AND a.state = 'active'
                    AND a.query = 'COMMIT'
                    AND a.query_start < clock_timestamp() - interval '0.5 seconds'
            ) > 4
            THEN 'commits-wait'
    END AS fault;
