-- The SQL files that took the most time in this database since the last pg_stat_statements_reset(), one row per file.
--
--   limit  integer  maximum number of rows
--
-- Needs pg_stat_statements in shared_preload_libraries; roles.sql creates the extension. Statements of other roles are visible
-- only to superusers and members of pg_read_all_stats; petstore_app sees its own, which are all of the service.
--
-- Locks: none.
-- psql -v limit=20 -f sql/tools/top_queries.sql
SELECT
    coalesce(
        substring(s.query FROM '/\* ([a-z0-9_]+/[a-z0-9_]+) \*/'),
        left(regexp_replace(s.query, '\s+', ' ', 'g'), 60)
    ) AS name,
    sum(s.calls)::bigint AS calls,
    round(sum(s.total_exec_time)::numeric, 1) AS total_ms,
    round((sum(s.total_exec_time) / sum(s.calls))::numeric, 3) AS mean_ms,
    sum(s.rows)::bigint AS rows,
    round((100 * sum(s.total_exec_time) / sum(sum(s.total_exec_time)) OVER ())::numeric, 1) AS percent
FROM public.pg_stat_statements AS s
INNER JOIN pg_database AS d ON s.dbid = d.oid
WHERE
    d.datname = current_database()
    AND s.toplevel
    AND s.calls > 0
    AND s.query <> '<insufficient privilege>'
GROUP BY name
ORDER BY total_ms DESC
LIMIT :'limit'::integer;
