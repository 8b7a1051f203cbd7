-- Facts about this database: schema version, currency, minor digits, and an identity that no other database has.
--
-- unsafe_versions are those on which only releases serve that know them. By way of JSON, because version 5 has no column safe.
--
-- Parameters: none.
-- Locks: none.
-- psql -f sql/queries/system/get_shop.sql
WITH applied AS (
    SELECT
        coalesce(max(v.version), 0) AS version,
        coalesce(
            array_agg(v.version ORDER BY v.version) FILTER (WHERE to_jsonb(v) ->> 'safe' IS DISTINCT FROM 'true'), '{}'
        ) AS unsafe_versions
    FROM schema_version AS v
)

SELECT
    a.version,
    a.unsafe_versions,
    s.currency,
    s.minor_digits,
    s.instance_id::text || '/' || d.oid::text AS identity
FROM shop AS s
CROSS JOIN applied AS a
INNER JOIN pg_catalog.pg_database AS d ON d.datname = current_database();
