-- Facts about this database: schema version, currency, minor digits, and an identity that no other database has.
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
