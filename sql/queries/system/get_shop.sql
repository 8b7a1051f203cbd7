-- What this database is: its schema version, its currency, and what tells it from every other database.
--
-- Parameters: none.
-- Locks: none.
-- psql -f sql/queries/system/get_shop.sql
WITH newest AS (
    SELECT max(version) AS version FROM schema_version
)

SELECT
    n.version,
    s.currency,
    s.minor_digits,
    s.instance_id::text || '/' || d.oid::text AS identity
FROM shop AS s
CROSS JOIN newest AS n
INNER JOIN pg_catalog.pg_database AS d ON d.datname = current_database();
