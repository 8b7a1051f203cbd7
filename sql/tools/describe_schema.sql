-- What the schema m2_be_project is made of, one fact per row, with the SQL that makes, alters and drops it.
--
-- Two databases are alike if they have the same rows in kind, name and makes: `petstore check` compares a database with
-- sql/catalog.csv. What is as it always is (a trigger is enabled, an index is valid, petstore_owner owns a table) is no row; only what
-- is otherwise is one. The database is called :"DBNAME", as psql calls the one that it is connected to.
--
-- makes: brings the fact about. alters: does so where the object is there and differs; NULL: run drops, then makes.
-- drops: undoes it; NULL: it can only be set otherwise.
--
-- Not looked at, because they are the DBA's: comments, statistics, tablespaces, storage, default privileges, other extensions, settings
-- that change no result (time-outs, memory, logging), rights of other roles to read, who is a member of petstore_owner, LOGIN and
-- passwords.
--
-- Parameters: none.
-- Locks: ACCESS SHARE on the tables, each for a moment: it waits for a running ALTER TABLE.
-- psql -f sql/tools/describe_schema.sql
WITH -- noqa: disable=AL03,RF02,ST05
-- Without a search_path PostgreSQL qualifies every name, as pg_dump has it do. All that prints a definition joins `relations` or
-- `namespace`, and so comes after this. At the end it is set back.
before AS MATERIALIZED (
    SELECT current_setting('search_path') AS search_path
),

path AS MATERIALIZED (
    SELECT
        b.search_path,
        set_config('search_path', '', true) AS emptied
    FROM before AS b
),

namespace AS MATERIALIZED (
    SELECT
        n.oid,
        n.nspowner,
        n.nspacl
    FROM pg_namespace AS n
    INNER JOIN path AS p ON p.emptied = ''
    WHERE n.nspname = 'm2_be_project'
),

-- What an extension has brought along is not ours.
members AS MATERIALIZED (
    SELECT
        d.classid,
        d.objid,
        d.refobjid
    FROM pg_depend AS d
    WHERE d.deptype = 'e'
),

roles AS MATERIALIZED (
    SELECT r.*
    FROM pg_roles AS r
    WHERE r.rolname IN ('petstore_owner', 'petstore_app', 'petstore_report')
),

relations AS MATERIALIZED (
    SELECT
        c.oid,
        c.relkind,
        c.relowner,
        c.relacl,
        c.relpersistence,
        c.reloptions,
        c.relrowsecurity,
        c.relforcerowsecurity,
        c.reltype,
        c.relispartition,
        quote_ident(c.relname) AS name,
        'm2_be_project.' || quote_ident(c.relname) AS full_name,
        c.relkind IN ('r', 'p', 'f') AS is_table,
        CASE c.relkind
            WHEN 'v' THEN 'VIEW'
            WHEN 'm' THEN 'MATERIALIZED VIEW'
            WHEN 'f' THEN 'FOREIGN TABLE'
            WHEN 'S' THEN 'SEQUENCE'
            WHEN 'c' THEN 'TYPE'
            ELSE 'TABLE'
        END AS noun
    FROM pg_class AS c
    INNER JOIN namespace AS n ON c.relnamespace = n.oid
    LEFT JOIN members AS m ON m.classid = 'pg_class'::regclass AND c.oid = m.objid
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S', 'c') AND m.objid IS NULL
),

columns AS MATERIALIZED (
    SELECT
        r.oid,
        a.attnum,
        a.attacl,
        a.attnotnull,
        a.attidentity,
        a.attgenerated,
        r.relkind,
        r.relowner,
        r.is_table,
        r.name AS table_name,
        r.full_name AS table_full_name,
        r.name || '.' || quote_ident(a.attname) AS name,
        quote_ident(a.attname) AS column_name,
        'ALTER TABLE ' || r.full_name || ' ' AS alter_table,
        'ALTER TABLE ' || r.full_name || ' ALTER COLUMN ' || quote_ident(a.attname) || ' ' AS alter_column,
        format_type(a.atttypid, a.atttypmod) AS type,
        CASE WHEN a.attcollation <> t.typcollation THEN ' COLLATE ' || a.attcollation::regcollation ELSE '' END AS collation,
        pg_get_expr(e.adbin, e.adrelid) AS expression
    FROM relations AS r
    INNER JOIN pg_attribute AS a ON r.oid = a.attrelid
    INNER JOIN pg_type AS t ON a.atttypid = t.oid
    LEFT JOIN pg_attrdef AS e ON a.attrelid = e.adrelid AND a.attnum = e.adnum
    WHERE r.relkind IN ('r', 'p', 'f', 'v', 'm') AND a.attnum > 0 AND NOT a.attisdropped
),

sequences AS MATERIALIZED (
    SELECT
        r.oid,
        r.name,
        r.full_name,
        d.refobjid AS table_oid,
        d.refobjsubid AS attnum,
        format(
            'INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %sCYCLE',
            s.seqincrement, s.seqmin, s.seqmax, s.seqstart, s.seqcache, CASE WHEN s.seqcycle THEN '' ELSE 'NO ' END
        ) AS options,
        format(
            'SET INCREMENT BY %s SET MINVALUE %s SET MAXVALUE %s SET START WITH %s SET CACHE %s SET %sCYCLE',
            s.seqincrement, s.seqmin, s.seqmax, s.seqstart, s.seqcache, CASE WHEN s.seqcycle THEN '' ELSE 'NO ' END
        ) AS set_options,
        format_type(s.seqtypid, NULL) AS type
    FROM relations AS r
    INNER JOIN pg_sequence AS s ON r.oid = s.seqrelid
    -- That of an identity column is part of the column.
    LEFT JOIN pg_depend AS d
        ON
            d.classid = 'pg_class'::regclass
            AND r.oid = d.objid
            AND d.refclassid = 'pg_class'::regclass
            AND d.refobjsubid > 0
            AND d.deptype = 'i'
),

types AS MATERIALIZED (
    SELECT
        t.oid,
        t.typtype,
        t.typowner,
        t.typacl,
        t.typrelid,
        t.typnotnull,
        t.typdefault,
        t.typbasetype,
        t.typtypmod,
        quote_ident(t.typname) AS name,
        'm2_be_project.' || quote_ident(t.typname) AS full_name,
        CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END AS noun
    FROM pg_type AS t
    INNER JOIN namespace AS n ON t.typnamespace = n.oid
    LEFT JOIN members AS m ON m.classid = 'pg_type'::regclass AND t.oid = m.objid
    LEFT JOIN relations AS r ON t.typrelid = r.oid
    -- Neither the row type of a table nor an array nor the multirange of a range.
    WHERE t.typtype IN ('d', 'e', 'r', 'c') AND (t.typrelid = 0 OR r.relkind = 'c') AND m.objid IS NULL
),

functions AS MATERIALIZED (
    SELECT
        f.oid,
        f.proowner,
        f.proacl,
        f.prosecdef,
        f.prokind,
        f.prolang,
        quote_ident(f.proname) || '(' || oidvectortypes(f.proargtypes) || ')' AS name,
        'm2_be_project.' || quote_ident(f.proname) || '(' || oidvectortypes(f.proargtypes) || ')' AS full_name,
        CASE f.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END AS noun
    FROM pg_proc AS f
    INNER JOIN namespace AS n ON f.pronamespace = n.oid
    LEFT JOIN members AS m ON m.classid = 'pg_proc'::regclass AND f.oid = m.objid
    WHERE m.objid IS NULL
),

constraints AS MATERIALIZED (
    SELECT
        k.oid,
        k.conindid,
        k.contype,
        coalesce(r.name, t.name) || '.' || quote_ident(k.conname) AS name,
        quote_ident(k.conname) AS constraint_name,
        CASE WHEN r.oid IS NULL THEN 'ALTER DOMAIN ' || t.full_name ELSE 'ALTER TABLE ' || r.full_name END || ' ' AS alter_object,
        pg_get_constraintdef(k.oid) AS definition
    FROM namespace AS n
    INNER JOIN pg_constraint AS k ON n.oid = k.connamespace
    LEFT JOIN relations AS r ON k.conrelid = r.oid
    LEFT JOIN types AS t ON k.contypid = t.oid
    -- Not null is a fact of the column (a constraint, too, since PostgreSQL 18); a constraint trigger is a trigger.
    WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND (r.oid IS NOT NULL OR t.oid IS NOT NULL)
),

indexes AS MATERIALIZED (
    SELECT
        r.name || '.' || quote_ident(c.relname) AS name,
        'm2_be_project.' || quote_ident(c.relname) AS full_name,
        i.indisvalid AND i.indisready AND i.indislive AS is_valid,
        k.conindid IS NOT NULL AS of_constraint,
        c.relkind = 'I' AS is_partitioned,
        pg_get_indexdef(i.indexrelid) AS definition
    FROM relations AS r
    INNER JOIN pg_index AS i ON r.oid = i.indrelid
    INNER JOIN pg_class AS c ON i.indexrelid = c.oid
    LEFT JOIN constraints AS k ON i.indexrelid = k.conindid AND k.contype IN ('p', 'u', 'x')
),

triggers AS MATERIALIZED (
    SELECT
        t.oid,
        t.tgenabled,
        r.name || '.' || quote_ident(t.tgname) AS name,
        quote_ident(t.tgname) AS trigger_name,
        r.full_name AS table_full_name,
        'ALTER TABLE ' || r.full_name || ' ' AS alter_table
    FROM relations AS r
    INNER JOIN pg_trigger AS t ON r.oid = t.tgrelid
    WHERE NOT t.tgisinternal
),

rules AS MATERIALIZED (
    SELECT
        w.oid,
        w.ev_enabled,
        r.name || '.' || quote_ident(w.rulename) AS name,
        quote_ident(w.rulename) AS rule_name,
        r.full_name AS table_full_name,
        'ALTER TABLE ' || r.full_name || ' ' AS alter_table
    FROM relations AS r
    INNER JOIN pg_rewrite AS w ON r.oid = w.ev_class
    WHERE w.rulename <> '_RETURN'
),

-- What can be granted: how SQL calls it, who owns it, and the rights in it.
objects AS (
    SELECT
        r.name,
        CASE r.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END || r.full_name AS full_name,
        '' AS columns,
        r.relowner AS owner,
        r.relacl AS acl,
        false AS executes
    FROM relations AS r
    WHERE r.relkind <> 'c'
    UNION ALL
    SELECT
        c.name,
        c.table_full_name,
        ' (' || c.column_name || ')',
        c.relowner,
        c.attacl,
        false
    FROM columns AS c
    WHERE c.attacl IS NOT NULL
    UNION ALL
    SELECT
        f.name,
        CASE f.noun WHEN 'PROCEDURE' THEN 'PROCEDURE ' ELSE 'FUNCTION ' END || f.full_name,
        '',
        f.proowner,
        coalesce(f.proacl, acldefault('f', f.proowner)),
        f.prosecdef
    FROM functions AS f
    UNION ALL
    SELECT
        t.name,
        'TYPE ' || t.full_name,
        '',
        t.typowner,
        coalesce(t.typacl, acldefault('T', t.typowner)),
        false
    FROM types AS t
    UNION ALL
    SELECT
        'schema m2_be_project',
        'SCHEMA m2_be_project',
        '',
        n.nspowner,
        n.nspacl,
        false
    FROM namespace AS n
    UNION ALL
    SELECT
        'schema public',
        'SCHEMA public',
        '',
        n.nspowner,
        n.nspacl,
        false
    FROM pg_namespace AS n
    WHERE n.nspname = 'public'
    UNION ALL
    SELECT
        'database',
        'DATABASE :"DBNAME"',
        '',
        d.datdba,
        coalesce(d.datacl, acldefault('d', d.datdba)),
        false
    FROM pg_database AS d
    WHERE d.datname = current_database()
),

grants AS (
    SELECT
        o.name,
        o.full_name,
        o.columns,
        a.privilege_type AS privilege,
        coalesce(quote_ident(g.rolname), 'PUBLIC') AS grantee,
        bool_or(a.is_grantable) AS is_grantable
    FROM objects AS o
    CROSS JOIN aclexplode(o.acl) AS a
    LEFT JOIN pg_roles AS g ON a.grantee = g.oid
    WHERE
        CASE
            -- petstore_owner may own the database or not: it has these rights in it.
            WHEN o.name = 'database' AND g.rolname = 'petstore_owner' THEN true
            WHEN a.grantee = o.owner THEN false
            WHEN o.name = 'schema public' AND a.privilege_type <> 'CREATE' THEN false
            WHEN a.grantee = 0 OR g.rolname IN ('petstore_app', 'petstore_report') THEN true
            -- Others may be given rights to read. Superusers need none.
            ELSE
                NOT g.rolsuper
                AND (
                    o.executes
                    OR a.privilege_type IN (
                        'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN', 'CREATE'
                    )
                )
                AND o.name <> 'schema public'
        END
    GROUP BY o.name, o.full_name, o.columns, a.privilege_type, g.rolname
),

-- Settings that change what a statement means or whether it lasts. For all others a DBA may have reasons.
settings AS (
    SELECT
        CASE WHEN s.setrole = 0 THEN 'database setting' ELSE 'role setting' END AS kind,
        concat_ws(
            ' ', r.rolname, lower(v.name), CASE WHEN s.setrole <> 0 AND s.setdatabase <> 0 THEN 'in this database' END
        ) AS name,
        CASE
            WHEN s.setrole = 0 THEN 'ALTER DATABASE :"DBNAME" '
            WHEN s.setdatabase = 0 THEN format('ALTER ROLE %I ', r.rolname)
            ELSE format('ALTER ROLE %I IN DATABASE :"DBNAME" ', r.rolname)
        END AS alter_object,
        lower(v.name) AS setting,
        CASE lower(v.name) WHEN 'search_path' THEN coalesce(nullif(v.value, ''), '''''') ELSE quote_literal(v.value) END AS value
    FROM pg_db_role_setting AS s
    INNER JOIN pg_database AS d ON d.datname = current_database() AND s.setdatabase IN (0, d.oid)
    LEFT JOIN roles AS r ON s.setrole = r.oid
    CROSS JOIN unnest(s.setconfig) AS u (line)
    CROSS JOIN
        LATERAL (
            SELECT
                split_part(u.line, '=', 1) AS name,
                substr(u.line, strpos(u.line, '=') + 1) AS value
        ) AS v
    WHERE
        (r.oid IS NOT NULL OR (s.setrole = 0 AND s.setdatabase <> 0))
        AND (
            lower(v.name) IN (
                'search_path', 'timezone', 'role', 'row_security', 'session_replication_role', 'synchronous_commit',
                'default_transaction_isolation', 'default_transaction_read_only'
            )
            OR lower(v.name) LIKE 'petstore.%'
            OR (r.rolname = 'petstore_report' AND lower(v.name) IN ('statement_timeout', 'idle_in_transaction_session_timeout'))
        )
),

facts AS MATERIALIZED (
    SELECT
        10 AS rank,
        0 AS place,
        'role' AS kind,
        r.rolname::text AS name,
        format('CREATE ROLE %I LOGIN %s', r.rolname, a.attributes) AS makes,
        format('ALTER ROLE %I %s', r.rolname, a.attributes) AS alters,
        NULL AS drops
    FROM roles AS r
    CROSS JOIN
        LATERAL (
            SELECT
                concat_ws(
                    ' ',
                    CASE WHEN r.rolsuper THEN 'SUPERUSER' ELSE 'NOSUPERUSER' END,
                    CASE WHEN r.rolcreatedb THEN 'CREATEDB' ELSE 'NOCREATEDB' END,
                    CASE WHEN r.rolcreaterole THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END,
                    CASE WHEN r.rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END,
                    CASE WHEN r.rolreplication THEN 'REPLICATION' ELSE 'NOREPLICATION' END,
                    CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' ELSE 'NOBYPASSRLS' END
                ) AS attributes
        ) AS a

    UNION ALL

    -- Whether a membership inherits is a property of its own since PostgreSQL 16, and of the role before.
    SELECT
        11,
        0,
        'membership',
        m.member::regrole || ' ' || m.roleid::regrole,
        format('GRANT %s TO %s', m.roleid::regrole, m.member::regrole)
        || CASE WHEN bool_or(m.admin_option) THEN ' WITH ADMIN OPTION' ELSE '' END
        || CASE WHEN bool_or((to_jsonb(m) ->> 'inherit_option')::boolean) THEN ' WITH INHERIT TRUE' ELSE '' END
        || CASE WHEN NOT bool_or((to_jsonb(m) ->> 'set_option')::boolean) THEN ' WITH SET FALSE' ELSE '' END,
        NULL,
        format('REVOKE %s FROM %s', m.roleid::regrole, m.member::regrole)
    FROM pg_auth_members AS m
    INNER JOIN roles AS r ON m.member = r.oid
    WHERE r.rolname <> 'petstore_owner'
    GROUP BY m.member, m.roleid

    UNION ALL

    SELECT
        12,
        0,
        s.kind,
        s.name,
        format('%sSET %s = %s', s.alter_object, s.setting, s.value),
        format('%sSET %s = %s', s.alter_object, s.setting, s.value),
        format('%sRESET %s', s.alter_object, s.setting)
    FROM settings AS s

    UNION ALL

    -- Of the extensions, those that functions are written in. All others are the DBA's.
    SELECT
        13,
        0,
        'extension',
        e.extname::text,
        format('CREATE EXTENSION IF NOT EXISTS %I', e.extname),
        NULL,
        NULL
    FROM pg_extension AS e
    WHERE
        e.extname = 'plpgsql'
        OR EXISTS (
            SELECT FROM functions AS f
            INNER JOIN members AS m ON m.classid = 'pg_language'::regclass AND f.prolang = m.objid
            WHERE m.refobjid = e.oid
        )

    UNION ALL

    SELECT
        14,
        0,
        'collation version',
        'of the database',
        format('-- the indexes were sorted by version %s, the library is %s', v.recorded, v.actual),
        NULL,
        'REINDEX DATABASE CONCURRENTLY :"DBNAME";' || chr(10) || 'ALTER DATABASE :"DBNAME" REFRESH COLLATION VERSION'
    FROM pg_database AS d
    CROSS JOIN
        LATERAL (
            SELECT
                to_jsonb(d) ->> 'datcollversion' AS recorded, -- since PostgreSQL 15
                pg_collation_actual_version('pg_catalog.default'::regcollation) AS actual
        ) AS v
    WHERE d.datname = current_database() AND v.recorded <> v.actual

    UNION ALL

    SELECT DISTINCT
        14,
        0,
        'collation version',
        o.oid::regcollation::text,
        format('-- the indexes were sorted by version %s, the library is %s', o.collversion, v.actual),
        NULL,
        'REINDEX DATABASE CONCURRENTLY :"DBNAME";' || chr(10)
        || format('ALTER COLLATION %s REFRESH VERSION', o.oid::regcollation)
    FROM columns AS c
    INNER JOIN pg_attribute AS a ON c.oid = a.attrelid AND c.attnum = a.attnum
    INNER JOIN pg_collation AS o ON a.attcollation = o.oid
    CROSS JOIN LATERAL (SELECT pg_collation_actual_version(o.oid) AS actual) AS v
    WHERE o.collname <> 'default' AND o.collversion <> v.actual

    UNION ALL

    SELECT
        20,
        0,
        lower(t.noun),
        t.name,
        CASE t.typtype
            WHEN 'd' THEN format('CREATE DOMAIN %s AS %s', t.full_name, format_type(t.typbasetype, t.typtypmod))
            WHEN 'e'
                THEN
                    format(
                        'CREATE TYPE %s AS ENUM (%s)',
                        t.full_name,
                        (
                            SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
                            FROM pg_enum AS e
                            WHERE e.enumtypid = t.oid
                        )
                    )
            WHEN 'r'
                THEN
                    format(
                        'CREATE TYPE %s AS RANGE (SUBTYPE = %s)',
                        t.full_name,
                        (
                            SELECT format_type(g.rngsubtype, NULL) FROM pg_range AS g
                            WHERE g.rngtypid = t.oid
                        )
                    )
            ELSE format(
                'CREATE TYPE %s AS (%s)',
                t.full_name,
                (
                    SELECT string_agg(format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)), ', ' ORDER BY a.attnum)
                    FROM pg_attribute AS a
                    WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
                )
            )
        END,
        NULL,
        format('DROP %s %s', t.noun, t.full_name)
    FROM types AS t

    UNION ALL

    SELECT
        21,
        0,
        'not null',
        t.name,
        format('ALTER DOMAIN %s SET NOT NULL', t.full_name),
        NULL,
        format('ALTER DOMAIN %s DROP NOT NULL', t.full_name)
    FROM types AS t
    WHERE t.typnotnull

    UNION ALL

    SELECT
        21,
        0,
        'default',
        t.name,
        format('ALTER DOMAIN %s SET DEFAULT %s', t.full_name, t.typdefault),
        NULL,
        format('ALTER DOMAIN %s DROP DEFAULT', t.full_name)
    FROM types AS t
    WHERE t.typtype = 'd' AND t.typdefault IS NOT NULL

    UNION ALL

    SELECT
        22,
        0,
        'sequence',
        s.name,
        format('CREATE SEQUENCE %s AS %s %s', s.full_name, s.type, s.options),
        format('ALTER SEQUENCE %s AS %s %s', s.full_name, s.type, s.options),
        format('DROP SEQUENCE %s', s.full_name)
    FROM sequences AS s
    WHERE s.table_oid IS NULL

    UNION ALL

    SELECT
        30,
        0,
        lower(r.noun),
        r.name,
        CASE r.relkind
            WHEN 'v' THEN format('CREATE OR REPLACE VIEW %s AS%s%s', r.full_name, chr(10), rtrim(pg_get_viewdef(r.oid), ';'))
            WHEN 'm' THEN format('CREATE MATERIALIZED VIEW %s AS%s%s', r.full_name, chr(10), rtrim(pg_get_viewdef(r.oid), ';'))
            WHEN 'p' THEN format('CREATE TABLE %s () PARTITION BY %s', r.full_name, pg_get_partkeydef(r.oid))
            ELSE format('CREATE %s %s ()', r.noun, r.full_name)
        END,
        NULL,
        format('DROP %s %s', r.noun, r.full_name)
    FROM relations AS r
    WHERE r.relkind NOT IN ('S', 'c')

    UNION ALL

    SELECT
        31,
        0,
        'persistence',
        r.name,
        format('ALTER TABLE %s SET UNLOGGED', r.full_name),
        NULL,
        format('ALTER TABLE %s SET LOGGED', r.full_name)
    FROM relations AS r
    WHERE r.is_table AND r.relpersistence = 'u'

    UNION ALL

    SELECT
        31,
        0,
        'table option',
        r.name || '.' || split_part(o.line, '=', 1),
        format('ALTER %s %s SET (%s)', r.noun, r.full_name, o.line),
        format('ALTER %s %s SET (%s)', r.noun, r.full_name, o.line),
        format('ALTER %s %s RESET (%s)', r.noun, r.full_name, split_part(o.line, '=', 1))
    FROM relations AS r
    CROSS JOIN unnest(r.reloptions) AS o (line)

    UNION ALL

    SELECT
        31,
        0,
        'row security',
        r.name,
        format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', r.full_name)
        || CASE WHEN r.relforcerowsecurity THEN ', FORCE ROW LEVEL SECURITY' ELSE '' END,
        NULL,
        format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', r.full_name)
    FROM relations AS r
    WHERE r.relrowsecurity

    UNION ALL

    -- Rows of a child show in its parent.
    SELECT
        32,
        0,
        'inheritance',
        r.name || ' ' || i.inhrelid::regclass,
        format('ALTER TABLE %s INHERIT %s', i.inhrelid::regclass, r.full_name),
        NULL,
        CASE r.relkind
            WHEN 'p' THEN format('ALTER TABLE %s DETACH PARTITION %s', r.full_name, i.inhrelid::regclass)
            ELSE format('ALTER TABLE %s NO INHERIT %s', i.inhrelid::regclass, r.full_name)
        END
    FROM relations AS r
    INNER JOIN pg_inherits AS i ON r.oid = i.inhparent
    WHERE r.is_table

    UNION ALL

    SELECT
        33,
        c.attnum,
        'column',
        c.name,
        c.alter_table || 'ADD COLUMN ' || c.column_name || ' ' || c.type || c.collation
        || CASE c.attgenerated
            WHEN 's' THEN format(' GENERATED ALWAYS AS (%s) STORED', c.expression)
            WHEN 'v' THEN format(' GENERATED ALWAYS AS (%s) VIRTUAL', c.expression)
            ELSE ''
        END,
        CASE
            WHEN c.attgenerated = ''
                THEN format('%sTYPE %s%s USING %s::%s', c.alter_column, c.type, c.collation, c.column_name, c.type)
        END,
        c.alter_table || 'DROP COLUMN ' || c.column_name
    FROM columns AS c
    WHERE c.is_table

    UNION ALL

    SELECT
        34,
        c.attnum,
        'not null',
        c.name,
        c.alter_column || 'SET NOT NULL',
        NULL,
        c.alter_column || 'DROP NOT NULL'
    FROM columns AS c
    WHERE c.is_table AND c.attnotnull

    UNION ALL

    SELECT
        40,
        0,
        lower(f.noun),
        f.name,
        CASE f.prokind WHEN 'a' THEN 'CREATE AGGREGATE ' || f.full_name ELSE rtrim(pg_get_functiondef(f.oid), chr(10)) END,
        NULL,
        format('DROP %s %s', f.noun, f.full_name)
    FROM functions AS f

    UNION ALL

    SELECT
        41,
        c.attnum,
        'default',
        c.name,
        c.alter_column || 'SET DEFAULT ' || c.expression,
        c.alter_column || 'SET DEFAULT ' || c.expression,
        c.alter_column || 'DROP DEFAULT'
    FROM columns AS c
    WHERE c.is_table AND c.attgenerated = '' AND c.expression IS NOT NULL

    UNION ALL

    -- A sequence that is made anew goes on after the highest number that was given.
    SELECT
        42,
        c.attnum,
        'identity',
        c.name,
        format(
            '%sADD GENERATED %s AS IDENTITY (SEQUENCE NAME %s %s);%sSELECT setval(%L, max(%s)) FROM %s',
            c.alter_column, g.always, s.full_name, s.options, chr(10), s.full_name, c.column_name, c.table_full_name
        ),
        format('%sSET GENERATED %s %s', c.alter_column, g.always, s.set_options),
        c.alter_column || 'DROP IDENTITY'
    FROM columns AS c
    INNER JOIN sequences AS s ON c.oid = s.table_oid AND c.attnum = s.attnum
    CROSS JOIN LATERAL (SELECT CASE c.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END AS always) AS g
    WHERE c.attidentity <> ''

    UNION ALL

    SELECT
        CASE k.contype WHEN 'f' THEN 52 WHEN 'c' THEN 51 ELSE 50 END,
        0,
        'constraint',
        k.name,
        format('%sADD CONSTRAINT %s %s', k.alter_object, k.constraint_name, regexp_replace(k.definition, ' NOT VALID$', '')),
        NULL,
        format('%sDROP CONSTRAINT %s', k.alter_object, k.constraint_name)
    FROM constraints AS k

    UNION ALL

    SELECT
        53,
        0,
        'constraint state',
        k.name,
        format(
            '%sDROP CONSTRAINT %s;%s%sADD CONSTRAINT %s %s',
            k.alter_object, k.constraint_name, chr(10), k.alter_object, k.constraint_name, k.definition
        ),
        NULL,
        format('%sVALIDATE CONSTRAINT %s', k.alter_object, k.constraint_name)
    FROM constraints AS k
    WHERE k.definition LIKE '% NOT VALID'

    UNION ALL

    -- Foreign keys are kept by triggers, which a superuser can disable.
    SELECT DISTINCT
        54,
        0,
        'foreign key triggers',
        r.name,
        format('ALTER TABLE %s DISABLE TRIGGER ALL', r.full_name),
        NULL,
        format('ALTER TABLE %s ENABLE TRIGGER ALL', r.full_name)
    FROM relations AS r
    INNER JOIN pg_trigger AS t ON r.oid = t.tgrelid
    WHERE t.tgisinternal AND t.tgenabled <> 'O'

    UNION ALL

    SELECT
        60,
        0,
        'index',
        i.name,
        CASE WHEN i.is_partitioned THEN i.definition ELSE regexp_replace(i.definition, ' INDEX ', ' INDEX CONCURRENTLY ') END,
        NULL,
        format('DROP INDEX %s%s', CASE WHEN i.is_partitioned THEN '' ELSE 'CONCURRENTLY ' END, i.full_name)
    FROM indexes AS i
    WHERE NOT i.of_constraint

    UNION ALL

    SELECT
        61,
        0,
        'index state',
        i.name,
        '-- it is not valid: CREATE INDEX CONCURRENTLY or REINDEX CONCURRENTLY has failed',
        NULL,
        format('REINDEX INDEX CONCURRENTLY %s', i.full_name)
    FROM indexes AS i
    WHERE NOT i.is_valid

    UNION ALL

    SELECT
        70,
        0,
        'trigger',
        t.name,
        pg_get_triggerdef(t.oid),
        NULL,
        format('DROP TRIGGER %s ON %s', t.trigger_name, t.table_full_name)
    FROM triggers AS t

    UNION ALL

    SELECT
        71,
        0,
        'trigger state',
        t.name,
        t.alter_table
        || CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END
        || ' TRIGGER ' || t.trigger_name,
        NULL,
        t.alter_table || 'ENABLE TRIGGER ' || t.trigger_name
    FROM triggers AS t
    WHERE t.tgenabled <> 'O'

    UNION ALL

    SELECT
        72,
        0,
        'rule',
        w.name,
        rtrim(pg_get_ruledef(w.oid), ';'),
        NULL,
        format('DROP RULE %s ON %s', w.rule_name, w.table_full_name)
    FROM rules AS w

    UNION ALL

    SELECT
        73,
        0,
        'rule state',
        w.name,
        w.alter_table
        || CASE w.ev_enabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END
        || ' RULE ' || w.rule_name,
        NULL,
        w.alter_table || 'ENABLE RULE ' || w.rule_name
    FROM rules AS w
    WHERE w.ev_enabled <> 'O'

    UNION ALL

    SELECT
        74,
        0,
        'policy',
        r.name || '.' || quote_ident(p.polname),
        concat_ws(
            ' ',
            format('CREATE POLICY %I ON %s AS', p.polname, r.full_name),
            CASE WHEN p.polpermissive THEN 'PERMISSIVE FOR' ELSE 'RESTRICTIVE FOR' END,
            CASE p.polcmd
                WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL'
            END,
            'TO',
            (
                SELECT string_agg(CASE WHEN u.oid = 0 THEN 'PUBLIC' ELSE u.oid::regrole::text END, ', ' ORDER BY u.oid)
                FROM unnest(p.polroles) AS u (oid)
            ),
            'USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
            'WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'
        ),
        NULL,
        format('DROP POLICY %I ON %s', p.polname, r.full_name)
    FROM relations AS r
    INNER JOIN pg_policy AS p ON r.oid = p.polrelid

    UNION ALL

    SELECT
        80,
        0,
        'owner',
        o.name,
        format('ALTER %s OWNER TO %s', o.full_name, o.owner::regrole),
        NULL,
        format('ALTER %s OWNER TO petstore_owner', o.full_name)
    FROM (
        SELECT
            'schema m2_be_project' AS name,
            'SCHEMA m2_be_project' AS full_name,
            n.nspowner AS owner
        FROM namespace AS n
        UNION ALL
        SELECT
            r.name,
            r.noun || ' ' || r.full_name,
            r.relowner
        FROM relations AS r
        LEFT JOIN sequences AS s ON r.oid = s.oid
        WHERE r.relkind <> 'c' AND s.table_oid IS NULL
        UNION ALL
        SELECT
            f.name,
            f.noun || ' ' || f.full_name,
            f.proowner
        FROM functions AS f
        UNION ALL
        SELECT
            t.name,
            t.noun || ' ' || t.full_name,
            t.typowner
        FROM types AS t
    ) AS o
    INNER JOIN pg_roles AS g ON o.owner = g.oid
    WHERE g.rolname <> 'petstore_owner'

    UNION ALL

    SELECT
        90,
        0,
        'grant',
        concat_ws(' ', g.name, g.grantee, g.privilege),
        format('GRANT %s%s ON %s TO %s', g.privilege, g.columns, g.full_name, g.grantee)
        || CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END,
        NULL,
        format('REVOKE %s%s ON %s FROM %s', g.privilege, g.columns, g.full_name, g.grantee)
    FROM grants AS g
)

SELECT
    f.kind,
    f.name,
    f.makes,
    f.alters,
    f.drops
FROM facts AS f
-- The count needs every fact, so that the path is set back after the last of them.
CROSS JOIN (
    SELECT set_config('search_path', p.search_path, true) AS search_path
    FROM path AS p
    WHERE (SELECT count(*) FROM facts) > 0
) AS restored
WHERE restored.search_path IS NOT NULL
ORDER BY f.rank, split_part(f.name, '.', 1) COLLATE "C", f.place, f.name COLLATE "C", f.makes COLLATE "C";
