-- Facts about this database: schema version, currency, minor digits, and its identity (_identity.sql).
--
-- unsafe_versions are those on which only releases serve that know them. By way of JSON, because version 5 has no column safe.
--
-- Parameters: none.
-- Locks: none.
-- psql -f sql/queries/system/get_shop.sql
\ir _identity.sql
WITH applied AS (
    SELECT
        coalesce(max(v.version), 0) AS version,
        coalesce(
            array_agg(v.version ORDER BY v.version) FILTER (WHERE to_jsonb(v) ->> 'safe' IS DISTINCT FROM 'true'), '{}'
        ) AS unsafe_versions
    FROM schema_version AS v
),

told AS (
    SELECT :database_identity AS identity FROM shop
)

SELECT
    a.version,
    a.unsafe_versions,
    s.currency,
    s.minor_digits,
    t.identity
FROM shop AS s
CROSS JOIN applied AS a
CROSS JOIN told AS t;
