-- What the schema m2_be_project is made of, one fact per row, with the SQL that makes, alters and drops it.
--
-- Two databases are alike if they have the same rows in kind, name and makes: `petstore check` compares a database with
-- sql/catalog.csv. What is as it always is (a trigger is enabled, an index is valid, petstore_owner owns a table) is no row; only what
-- is otherwise is one. The database is called :"DBNAME", as psql calls the one that it is connected to.
--
-- makes: brings the fact about. alters: does so where the object is there and differs; NULL: run drops, then makes.
-- drops: undoes it; NULL: it can only be set otherwise.
-- Of what Petstore does not use (enum types, materialized views, policies ...) makes is a comment: it is found, but not described.
--
-- Not looked at, because they are the DBA's: comments, statistics, tablespaces, storage, default privileges, other extensions, settings
-- that change no result (time-outs, memory, logging), other roles' rights to read, members of these roles, LOGIN, passwords.
--
-- Parameters: none.
-- Locks: ACCESS SHARE on the tables, each for a moment: it waits for a running ALTER TABLE.
-- psql -f sql/tools/describe_schema.sql
WITH -- noqa: disable=AL03,RF02,ST05
-- Without a search_path PostgreSQL qualifies every name, as pg_dump has it do, and with the other it quotes texts in one way. All that
-- prints a definition joins `relations` or `namespace`, and so comes after this. At the end both are set back.
before AS MATERIALIZED (
    SELECT current_setting('search_path') AS search_path, current_setting('standard_conforming_strings') AS quoted
),

path AS MATERIALIZED (
    SELECT b.*, set_config('search_path', '', true) AS emptied, set_config('standard_conforming_strings', 'on', true) AS set_on
    FROM before AS b
),

namespace AS MATERIALIZED (
    SELECT n.* FROM pg_namespace AS n
    INNER JOIN path AS p ON p.emptied = ''
    WHERE n.nspname = 'm2_be_project'
),

-- What an extension has brought along is not ours.
members AS (
    SELECT d.classid, d.objid FROM pg_depend AS d
    WHERE d.deptype = 'e'
),

roles AS (
    SELECT
        r.oid, r.rolname,
        CASE WHEN r.rolsuper THEN 'SUPERUSER' ELSE 'NOSUPERUSER' END
        || CASE WHEN r.rolcreatedb THEN ' CREATEDB' ELSE ' NOCREATEDB' END
        || CASE WHEN r.rolcreaterole THEN ' CREATEROLE' ELSE ' NOCREATEROLE' END
        || CASE WHEN r.rolinherit THEN ' INHERIT' ELSE ' NOINHERIT' END
        || CASE WHEN r.rolreplication THEN ' REPLICATION' ELSE ' NOREPLICATION' END
        || CASE WHEN r.rolbypassrls THEN ' BYPASSRLS' ELSE ' NOBYPASSRLS' END AS attributes
    FROM pg_roles AS r
    WHERE r.rolname IN ('petstore_owner', 'petstore_app', 'petstore_report')
),

relations AS MATERIALIZED (
    SELECT
        c.*, c.relkind IN ('r', 'p', 'f') AS is_table,
        d.refobjid AS column_of, d.refobjsubid AS column_number, -- of a sequence: the table and the column that it belongs to
        CASE c.relkind
            WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE' WHEN 'S' THEN 'SEQUENCE'
            ELSE 'TABLE'
        END AS noun,
        quote_ident(c.relname) AS name, format('m2_be_project.%I', c.relname) AS full_name,
        format('ALTER TABLE m2_be_project.%I ', c.relname) AS alter_table
    FROM pg_class AS c
    INNER JOIN namespace AS n ON c.relnamespace = n.oid
    LEFT JOIN pg_depend AS d ON c.relkind = 'S' AND c.tableoid = d.classid AND c.oid = d.objid AND d.deptype IN ('a', 'i')
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND (c.tableoid, c.oid) NOT IN (SELECT m.classid, m.objid FROM members AS m)
),

columns AS MATERIALIZED (
    SELECT
        a.*, r.relowner, r.is_table, r.full_name AS table_full_name, r.alter_table,
        format('%s.%I', r.name, a.attname) AS name, format('%sALTER COLUMN %I ', r.alter_table, a.attname) AS alter_column,
        format_type(a.atttypid, a.atttypmod) AS type,
        CASE WHEN a.attcollation <> t.typcollation THEN ' COLLATE ' || a.attcollation::regcollation ELSE '' END AS collation,
        pg_get_expr(e.adbin, e.adrelid) AS expression
    FROM relations AS r
    INNER JOIN pg_attribute AS a ON r.oid = a.attrelid
    INNER JOIN pg_type AS t ON a.atttypid = t.oid
    LEFT JOIN pg_attrdef AS e ON a.attrelid = e.adrelid AND a.attnum = e.adnum
    WHERE r.relkind <> 'S' AND a.attnum > 0 AND NOT a.attisdropped
),

-- Not the row type of a table, nor an array, nor the multirange of a range.
types AS MATERIALIZED (
    SELECT
        t.*, CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END AS noun,
        quote_ident(t.typname) AS name, format('m2_be_project.%I', t.typname) AS full_name,
        format('ALTER DOMAIN m2_be_project.%I ', t.typname) AS alter_domain
    FROM pg_type AS t
    INNER JOIN namespace AS n ON t.typnamespace = n.oid
    LEFT JOIN pg_class AS c ON t.typrelid = c.oid
    WHERE
        (t.typtype IN ('d', 'e', 'r') OR c.relkind = 'c')
        AND (t.tableoid, t.oid) NOT IN (SELECT m.classid, m.objid FROM members AS m)
),

functions AS MATERIALIZED (
    SELECT
        f.*, CASE WHEN f.prokind IN ('f', 'w') THEN 'FUNCTION' ELSE 'ROUTINE' END AS noun, -- a procedure or an aggregate
        format('%I(%s)', f.proname, oidvectortypes(f.proargtypes)) AS name,
        format('m2_be_project.%I(%s)', f.proname, oidvectortypes(f.proargtypes)) AS full_name
    FROM pg_proc AS f
    INNER JOIN namespace AS n ON f.pronamespace = n.oid
    WHERE (f.tableoid, f.oid) NOT IN (SELECT m.classid, m.objid FROM members AS m)
),

-- Not null is a fact of the column (a constraint, too, since PostgreSQL 18); a constraint trigger is a trigger.
constraints AS MATERIALIZED (
    SELECT
        k.*, format('%s.%I', coalesce(r.name, t.name), k.conname) AS name,
        coalesce(r.alter_table, t.alter_domain) AS alter_object,
        pg_get_constraintdef(k.oid) AS definition
    FROM namespace AS n
    INNER JOIN pg_constraint AS k ON n.oid = k.connamespace
    LEFT JOIN relations AS r ON k.conrelid = r.oid
    LEFT JOIN types AS t ON k.contypid = t.oid
    WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND (r.oid IS NOT NULL OR t.oid IS NOT NULL)
),

indexes AS MATERIALIZED (
    SELECT
        i.*, format('%s.%I', r.name, c.relname) AS name, format('m2_be_project.%I', c.relname) AS full_name,
        regexp_replace(pg_get_indexdef(i.indexrelid), ' WITH [(][^ ]+=[^)]*[)]', '') AS definition -- storage is the DBA's
    FROM relations AS r
    INNER JOIN pg_index AS i ON r.oid = i.indrelid
    INNER JOIN pg_class AS c ON i.indexrelid = c.oid
),

-- Triggers and rules: both can be disabled.
actions AS MATERIALIZED (
    SELECT
        'TRIGGER' AS noun, t.tgname AS action, t.tgenabled AS enabled, pg_get_triggerdef(t.oid) AS definition,
        r.name, r.full_name, r.alter_table
    FROM relations AS r
    INNER JOIN pg_trigger AS t ON r.oid = t.tgrelid
    WHERE NOT t.tgisinternal
    UNION ALL
    SELECT 'RULE', w.rulename, w.ev_enabled, rtrim(pg_get_ruledef(w.oid), ';'), r.name, r.full_name, r.alter_table
    FROM relations AS r
    INNER JOIN pg_rewrite AS w ON r.oid = w.ev_class
    WHERE w.rulename <> '_RETURN' -- a view's query
),

-- What can be owned and granted: how ALTER ... OWNER TO calls it (NULL: its owner is not compared), how GRANT does, and the rights on
-- it when nobody has granted or revoked one (NULL: those of its owner are not compared).
objects AS (
    SELECT
        r.name, CASE WHEN r.column_of IS NULL THEN r.noun || ' ' || r.full_name END AS owned,
        CASE r.noun WHEN 'SEQUENCE' THEN ' ON SEQUENCE ' ELSE ' ON ' END || r.full_name AS granted,
        r.relowner AS owner, r.relacl AS acl, false AS executes,
        CASE r.noun WHEN 'SEQUENCE' THEN acldefault('s', r.relowner) ELSE acldefault('r', r.relowner) END AS usual
    FROM relations AS r
    UNION ALL
    SELECT c.name, NULL, format(' (%I) ON %s', c.attname, c.table_full_name), c.relowner, c.attacl, false, NULL
    FROM columns AS c
    UNION ALL
    SELECT
        f.name, format('%s %s', f.noun, f.full_name), format(' ON %s %s', f.noun, f.full_name),
        f.proowner, f.proacl, f.prosecdef, acldefault('f', f.proowner)
    FROM functions AS f
    UNION ALL
    SELECT
        t.name, format('%s %s', t.noun, t.full_name), ' ON TYPE ' || t.full_name,
        t.typowner, t.typacl, false, acldefault('T', t.typowner)
    FROM types AS t
    UNION ALL
    SELECT
        'schema ' || n.nspname, CASE n.nspname WHEN 'm2_be_project' THEN 'SCHEMA m2_be_project' END, ' ON SCHEMA ' || n.nspname,
        n.nspowner, n.nspacl, false, CASE n.nspname WHEN 'm2_be_project' THEN acldefault('n', n.nspowner) END
    FROM pg_namespace AS n
    WHERE n.nspname IN ('m2_be_project', 'public')
    UNION ALL
    SELECT 'database', NULL, ' ON DATABASE :"DBNAME"', d.datdba, coalesce(d.datacl, acldefault('d', d.datdba)), false, NULL
    FROM pg_database AS d
    WHERE d.datname = current_database()
),

grants AS (
    SELECT
        o.name, a.privilege_type AS privilege, a.privilege_type || o.granted AS granted,
        coalesce(quote_ident(g.rolname), 'PUBLIC') AS grantee, bool_or(a.is_grantable) AS is_grantable
    FROM objects AS o
    CROSS JOIN aclexplode(coalesce(o.acl, o.usual)) AS a
    LEFT JOIN pg_roles AS g ON a.grantee = g.oid
    WHERE
        CASE
            -- petstore_owner may own the database or not: it has these rights in it.
            WHEN o.name = 'database' AND g.rolname = 'petstore_owner' THEN true
            WHEN a.grantee = o.owner OR (o.name = 'schema public' AND a.privilege_type <> 'CREATE') THEN false
            WHEN a.grantee = 0 OR g.rolname IN ('petstore_app', 'petstore_report') THEN true
            WHEN g.rolsuper OR o.name = 'schema public' THEN false
            -- Others may be given rights to read.
            ELSE o.executes OR a.privilege_type NOT IN ('SELECT', 'USAGE', 'EXECUTE', 'CONNECT', 'TEMPORARY')
        END
    GROUP BY o.name, o.granted, a.privilege_type, g.rolname
),

-- An owner can take rights from itself: then its functions and foreign keys fail.
lost AS (
    SELECT o.name, string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type COLLATE "C") AS privileges, o.granted
    FROM objects AS o
    CROSS JOIN aclexplode(o.usual) AS a
    WHERE a.grantee = o.owner AND NOT o.acl @> makeaclitem(o.owner, o.owner, a.privilege_type, false)
    GROUP BY o.name, o.granted
),

-- Settings that change what a statement means or whether it lasts. For all others a DBA may have reasons. Values have one form where
-- that is simple: on or off, and seconds.
settings AS (
    SELECT
        CASE WHEN s.setrole = 0 AND s.setdatabase <> 0 THEN 'database setting' ELSE 'role setting' END AS kind,
        concat_ws(' ', w.role, v.name, CASE WHEN s.setrole <> 0 AND s.setdatabase <> 0 THEN 'in this database' END) AS name,
        v.name AS setting,
        'ALTER ' || concat_ws(' IN ', 'ROLE ' || w.role, CASE WHEN s.setdatabase <> 0 THEN 'DATABASE :"DBNAME"' END) AS altered,
        CASE
            WHEN v.name = 'search_path' THEN coalesce(nullif(v.value, ''), '''''')
            WHEN p.vartype = 'bool' THEN quote_literal(CASE WHEN v.value::boolean THEN 'on' ELSE 'off' END)
            WHEN p.unit = 'ms' AND v.value ~ '^[0-9]+ *(ms|s|min|h|d)?$'
                THEN quote_literal(trim_scale(extract(EPOCH FROM regexp_replace(v.value, '(?<=[0-9])$', 'ms')::interval)) || 's')
            ELSE quote_literal(v.value)
        END AS value
    FROM pg_db_role_setting AS s
    INNER JOIN pg_database AS d ON d.datname = current_database() AND s.setdatabase IN (0, d.oid)
    LEFT JOIN roles AS r ON s.setrole = r.oid
    CROSS JOIN unnest(s.setconfig) AS u (line)
    CROSS JOIN LATERAL (SELECT CASE WHEN s.setrole = 0 AND s.setdatabase = 0 THEN 'ALL' ELSE r.rolname END) AS w (role)
    CROSS JOIN LATERAL (SELECT lower(split_part(u.line, '=', 1)), substr(u.line, strpos(u.line, '=') + 1)) AS v (name, value)
    LEFT JOIN pg_settings AS p ON v.name = lower(p.name)
    WHERE
        (r.oid IS NOT NULL OR s.setrole = 0)
        AND (
            v.name IN (
                'search_path', 'timezone', 'role', 'row_security', 'session_replication_role', 'default_transaction_isolation',
                'default_transaction_read_only', 'datestyle', 'intervalstyle', 'transform_null_equals', 'array_nulls',
                'bytea_output', 'standard_conforming_strings', 'local_preload_libraries'
            )
            OR v.name LIKE 'petstore.%'
            OR (v.name = 'synchronous_commit' AND lower(v.value) IN ('off', 'false', 'no', '0', 'local'))
            OR (r.rolname = 'petstore_report' AND v.name IN ('statement_timeout', 'idle_in_transaction_session_timeout'))
            -- In one database a DBA may set others.
            OR (
                r.rolname = 'petstore_app' AND s.setdatabase = 0
                AND v.name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout')
            )
        )
),

-- In the order in which they can be made: by rank, by table, by place in it.
facts (rank, place, kind, name, makes, alters, drops) AS MATERIALIZED (
    -- Roles, settings, and the language of the functions
    SELECT
        10, 0, 'role', r.rolname::text,
        format('CREATE ROLE %I LOGIN %s', r.rolname, r.attributes), format('ALTER ROLE %I %s', r.rolname, r.attributes), NULL
    FROM roles AS r
    UNION ALL
    SELECT
        11, 0, 'membership', m.member::regrole || ' ' || m.roleid::regrole,
        -- Whether it inherits is a property of its own since PostgreSQL 16, and of the role before.
        format('GRANT %s TO %s', m.roleid::regrole, m.member::regrole)
        || CASE WHEN bool_or(m.admin_option) THEN ' WITH ADMIN OPTION' ELSE '' END
        || CASE WHEN bool_or((to_jsonb(m) ->> 'inherit_option')::boolean) THEN ' WITH INHERIT TRUE' ELSE '' END
        || CASE WHEN NOT bool_or((to_jsonb(m) ->> 'set_option')::boolean) THEN ' WITH SET FALSE' ELSE '' END,
        NULL, format('REVOKE %s FROM %s', m.roleid::regrole, m.member::regrole)
    FROM pg_auth_members AS m
    INNER JOIN roles AS r ON m.member = r.oid
    GROUP BY m.member, m.roleid
    UNION ALL
    SELECT
        12, 0, s.kind, s.name,
        concat(s.altered, ' SET ', s.setting, ' = ', s.value), concat(s.altered, ' SET ', s.setting, ' = ', s.value),
        format('%s RESET %s', s.altered, s.setting)
    FROM settings AS s
    UNION ALL
    SELECT 13, 0, 'extension', e.extname::text, format('CREATE EXTENSION IF NOT EXISTS %I', e.extname), NULL, NULL
    FROM pg_extension AS e
    WHERE e.extname = 'plpgsql'

    -- Collations: that of the database (its version is there since PostgreSQL 15), and those of columns
    UNION ALL
    SELECT DISTINCT
        14, 0, 'collation version', v.name,
        format('-- the indexes were sorted by version %s, the library is %s', v.recorded, v.actual), NULL,
        E'REINDEX DATABASE CONCURRENTLY :"DBNAME";\n' || v.refresh
    FROM (
        SELECT
            'of the database' AS name, to_jsonb(d) ->> 'datcollversion' AS recorded,
            pg_collation_actual_version('pg_catalog.default'::regcollation) AS actual,
            'ALTER DATABASE :"DBNAME" REFRESH COLLATION VERSION' AS refresh
        FROM pg_database AS d
        WHERE d.datname = current_database()
        UNION ALL
        SELECT
            o.oid::regcollation::text, o.collversion, pg_collation_actual_version(o.oid),
            format('ALTER COLLATION %s REFRESH VERSION', o.oid::regcollation)
        FROM columns AS c
        INNER JOIN pg_collation AS o ON c.attcollation = o.oid
        WHERE o.collname <> 'default'
    ) AS v
    WHERE v.recorded <> v.actual

    -- Types
    UNION ALL
    SELECT
        20, 0, lower(t.noun), t.name,
        CASE t.noun
            WHEN 'DOMAIN' THEN format('CREATE DOMAIN %s AS %s', t.full_name, format_type(t.typbasetype, t.typtypmod))
            ELSE '-- not described'
        END,
        NULL, format('DROP %s %s', t.noun, t.full_name)
    FROM types AS t
    UNION ALL
    SELECT 21, 0, 'not null', t.name, t.alter_domain || 'SET NOT NULL', NULL, t.alter_domain || 'DROP NOT NULL'
    FROM types AS t
    WHERE t.typnotnull
    UNION ALL
    SELECT 21, 0, 'default', t.name, t.alter_domain || 'SET DEFAULT ' || t.typdefault, NULL, t.alter_domain || 'DROP DEFAULT'
    FROM types AS t
    WHERE t.typdefault IS NOT NULL

    -- Tables; views come after the functions that they may call
    UNION ALL
    SELECT
        CASE WHEN r.relkind IN ('v', 'm') THEN 45 ELSE 30 END, 0, lower(r.noun), r.name,
        CASE r.noun
            WHEN 'TABLE' THEN format('CREATE TABLE %s ()', r.full_name)
            WHEN 'VIEW' THEN format(E'CREATE OR REPLACE VIEW %s AS\n%s', r.full_name, rtrim(pg_get_viewdef(r.oid), ';'))
            ELSE '-- not described'
        END,
        NULL, format('DROP %s %s', r.noun, r.full_name)
    FROM relations AS r
    WHERE r.column_of IS NULL
    UNION ALL
    SELECT 31, 0, 'persistence', r.name, r.alter_table || 'SET UNLOGGED', NULL, r.alter_table || 'SET LOGGED'
    FROM relations AS r
    WHERE r.is_table AND r.relpersistence = 'u'
    UNION ALL
    SELECT
        31, 0, 'table option', format('%s.%s', r.name, split_part(o.line, '=', 1)),
        format('%sSET (%s)', r.alter_table, o.line), format('%sSET (%s)', r.alter_table, o.line),
        format('%sRESET (%s)', r.alter_table, split_part(o.line, '=', 1))
    FROM relations AS r
    CROSS JOIN unnest(r.reloptions) AS o (line)
    UNION ALL
    SELECT
        31, 0, 'row security', r.name, r.alter_table || 'ENABLE ROW LEVEL SECURITY', NULL,
        r.alter_table || 'DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY'
    FROM relations AS r
    WHERE r.relrowsecurity
    UNION ALL
    SELECT
        32, 0, 'inheritance', r.name || ' ' || i.inhrelid::regclass,
        format('ALTER TABLE %s INHERIT %s', i.inhrelid::regclass, r.full_name), NULL,
        format('ALTER TABLE %s NO INHERIT %s', i.inhrelid::regclass, r.full_name)
    FROM relations AS r
    INNER JOIN pg_inherits AS i ON r.oid = i.inhparent -- rows of a child show in its parent

    -- Columns
    UNION ALL
    SELECT
        33, c.attnum, 'column', c.name,
        format('%sADD COLUMN %I %s%s', c.alter_table, c.attname, c.type, c.collation)
        || CASE c.attgenerated
            WHEN '' THEN ''
            WHEN 's' THEN format(' GENERATED ALWAYS AS (%s) STORED', c.expression)
            ELSE format(' GENERATED ALWAYS AS (%s) VIRTUAL', c.expression)
        END,
        CASE c.attgenerated WHEN '' THEN format('%sTYPE %s%s USING %I::%2$s', c.alter_column, c.type, c.collation, c.attname) END,
        format('%sDROP COLUMN %I', c.alter_table, c.attname)
    FROM columns AS c
    WHERE c.is_table
    UNION ALL
    SELECT 34, c.attnum, 'not null', c.name, c.alter_column || 'SET NOT NULL', NULL, c.alter_column || 'DROP NOT NULL'
    FROM columns AS c
    WHERE c.is_table AND c.attnotnull

    -- Functions; then defaults, which may call them, and identities
    UNION ALL
    SELECT
        40, 0, lower(f.noun), f.name,
        CASE f.noun WHEN 'FUNCTION' THEN rtrim(pg_get_functiondef(f.oid), E'\n') ELSE '-- not described' END, NULL,
        format('DROP %s %s', f.noun, f.full_name)
    FROM functions AS f
    UNION ALL
    SELECT
        41, c.attnum, 'default', c.name,
        c.alter_column || 'SET DEFAULT ' || c.expression, c.alter_column || 'SET DEFAULT ' || c.expression,
        c.alter_column || 'DROP DEFAULT'
    FROM columns AS c
    WHERE c.is_table AND c.attgenerated = '' AND c.expression IS NOT NULL
    UNION ALL
    SELECT
        42, c.attnum, 'identity', c.name,
        format( -- a sequence that is made anew goes on after the highest number that was given
            E'%sADD GENERATED %s AS IDENTITY (SEQUENCE NAME %s %s);\nSELECT setval(%L, max(%I)) FROM %s',
            c.alter_column, o.always, r.full_name, array_to_string(o.options, ' '), r.full_name, c.attname, c.table_full_name
        ),
        format('%sSET GENERATED %s SET %s', c.alter_column, o.always, array_to_string(o.options, ' SET ')),
        c.alter_column || 'DROP IDENTITY'
    FROM columns AS c
    INNER JOIN relations AS r ON c.attrelid = r.column_of AND c.attnum = r.column_number
    INNER JOIN pg_sequence AS s ON r.oid = s.seqrelid
    CROSS JOIN
        LATERAL (
            SELECT
                CASE c.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END AS always,
                ARRAY[
                    'INCREMENT BY ' || s.seqincrement, 'MINVALUE ' || s.seqmin, 'MAXVALUE ' || s.seqmax,
                    'START WITH ' || s.seqstart, 'CACHE ' || s.seqcache, CASE WHEN s.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END
                ] AS options
        ) AS o
    WHERE c.attidentity <> ''

    -- Constraints: keys, then checks, then foreign keys
    UNION ALL
    SELECT
        CASE k.contype WHEN 'f' THEN 52 WHEN 'c' THEN 51 ELSE 50 END, 0, 'constraint', k.name,
        format('%sADD CONSTRAINT %I %s', k.alter_object, k.conname, regexp_replace(k.definition, ' NOT VALID$', '')), NULL,
        format('%sDROP CONSTRAINT %I', k.alter_object, k.conname)
    FROM constraints AS k
    UNION ALL
    SELECT
        53, 0, 'constraint state', k.name,
        format(E'%1$sDROP CONSTRAINT %2$I;\n%1$sADD CONSTRAINT %2$I %3$s', k.alter_object, k.conname, k.definition), NULL,
        format('%sVALIDATE CONSTRAINT %I', k.alter_object, k.conname)
    FROM constraints AS k
    WHERE k.definition LIKE '% NOT VALID'
    UNION ALL
    SELECT DISTINCT
        54, 0, 'foreign key triggers', r.name, r.alter_table || 'DISABLE TRIGGER ALL', NULL, r.alter_table || 'ENABLE TRIGGER ALL'
    FROM relations AS r
    INNER JOIN pg_trigger AS t ON r.oid = t.tgrelid
    WHERE t.tgisinternal AND t.tgenabled <> 'O' -- these keep foreign keys, and a superuser can disable them

    -- Indexes, but those of constraints
    UNION ALL
    SELECT
        60, 0, 'index', i.name, regexp_replace(i.definition, ' INDEX ', ' INDEX CONCURRENTLY '), NULL,
        'DROP INDEX CONCURRENTLY IF EXISTS ' || i.full_name
    FROM indexes AS i
    LEFT JOIN constraints AS k ON i.indexrelid = k.conindid AND k.contype IN ('p', 'u', 'x')
    WHERE k.oid IS NULL
    UNION ALL
    SELECT
        61, 0, 'index state', i.name, '-- it is not valid: CREATE INDEX CONCURRENTLY or REINDEX CONCURRENTLY has failed', NULL,
        'REINDEX INDEX CONCURRENTLY ' || i.full_name
    FROM indexes AS i
    WHERE NOT (i.indisvalid AND i.indisready AND i.indislive)

    -- Triggers, rules and policies
    UNION ALL
    SELECT
        70, 0, lower(a.noun), format('%s.%I', a.name, a.action), a.definition, NULL,
        format('DROP %s %I ON %s', a.noun, a.action, a.full_name)
    FROM actions AS a
    UNION ALL
    SELECT
        71, 0, lower(a.noun) || ' state', format('%s.%I', a.name, a.action),
        format(
            '%s%s %s %I', a.alter_table,
            CASE a.enabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, a.noun, a.action
        ),
        NULL, format('%sENABLE %s %I', a.alter_table, a.noun, a.action)
    FROM actions AS a
    WHERE a.enabled <> 'O'
    UNION ALL
    SELECT
        74, 0, 'policy', format('%s.%I', r.name, p.polname), '-- not described', NULL,
        format('DROP POLICY %I ON %s', p.polname, r.full_name)
    FROM relations AS r
    INNER JOIN pg_policy AS p ON r.oid = p.polrelid

    -- Owners and rights
    UNION ALL
    SELECT
        80, 0, 'owner', o.name, format('ALTER %s OWNER TO %s', o.owned, o.owner::regrole), NULL,
        format('ALTER %s OWNER TO petstore_owner', o.owned)
    FROM objects AS o
    INNER JOIN pg_roles AS g ON o.owner = g.oid
    WHERE o.owned IS NOT NULL AND g.rolname <> 'petstore_owner'
    UNION ALL
    SELECT
        81 + (o.name LIKE 'schema %')::integer, 0, 'owner right', concat_ws(' ', o.name, 'petstore_owner', o.privileges),
        '-- it cannot do what its functions do', NULL, format('GRANT %s%s TO petstore_owner', o.privileges, o.granted)
    FROM lost AS o
    UNION ALL
    SELECT
        90, 0, 'grant', concat_ws(' ', g.name, g.grantee, g.privilege),
        format('GRANT %s TO %s%s', g.granted, g.grantee, CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), NULL,
        format('REVOKE %s FROM %s', g.granted, g.grantee)
    FROM grants AS g
)

SELECT f.kind, f.name, f.makes, f.alters, f.drops
FROM facts AS f
-- The count needs every fact, so that the path is set back after the last of them.
CROSS JOIN (
    SELECT set_config('search_path', p.search_path, true) AS path, set_config('standard_conforming_strings', p.quoted, true)
    FROM path AS p
    WHERE (SELECT count(*) FROM facts) > 0
) AS restored
WHERE restored.path IS NOT NULL
ORDER BY f.rank, split_part(f.name, '.', 1) COLLATE "C", f.place, f.name COLLATE "C", f.makes COLLATE "C";
