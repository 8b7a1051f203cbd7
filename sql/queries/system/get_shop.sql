-- What this database is: its schema version, its currency, and what tells it from every other database.
--
-- Parameters: none.
-- Locks: none.
-- psql -f sql/queries/system/get_shop.sql
SELECT
    v.version,
    s.currency,
    s.minor_digits,
    s.instance_id::text || '/' || d.oid::text AS identity
FROM shop AS s
CROSS JOIN (SELECT max(version) AS version FROM schema_version) AS v
INNER JOIN pg_catalog.pg_database AS d ON d.datname = current_database();
