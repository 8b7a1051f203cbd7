-- Sets the deadlines of the service on its role, as sql/roles.sql does: a connection pooler does not pass on what a session asks for.
--
-- Whoever may not alter the role gets a warning with what a superuser has to run. What the role has set already stays as it is.
--
-- Locks: none.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/0009_set_role_timeouts.sql
DO $$
DECLARE
    taken_role constant text := current_setting('role');
    statements text;
BEGIN
    SELECT string_agg(format('ALTER ROLE petstore_app SET %s = %L', n.name, n.value), '; ' ORDER BY n.place) INTO statements
    FROM
        (
            VALUES
            (1, 'statement_timeout', '2500ms'), (2, 'lock_timeout', '2s'), (3, 'idle_in_transaction_session_timeout', '5s'),
            (4, 'timezone', 'UTC'), (5, 'datestyle', 'ISO')
        ) AS n (place, name, value)
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_db_role_setting AS s, unnest(s.setconfig) AS u (line)
        WHERE s.setdatabase = 0 AND s.setrole = 'petstore_app'::regrole AND lower(split_part(u.line, '=', 1)) = n.name
    );
    IF statements IS NOT NULL THEN
        PERFORM set_config('role', 'none', true); -- petstore_owner may not; whoever logged in may, if it is a superuser
        EXECUTE statements;
        PERFORM set_config('role', taken_role, true);
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN -- the role is taken again with it
        RAISE WARNING 'a superuser has to run sql/roles.sql again, or: %;', statements;
END
$$;

INSERT INTO schema_version (version, name, safe) VALUES (9, 'set_role_timeouts', true);
