-- The three roles of a Petstore database, and the settings and rights of the database itself. Can be run again at any time.
--
--   petstore_owner   owns the schema: DDL, migrations, bulk loads, maintenance
--   petstore_app     for the service: only the rights that its queries need (granted in schema.sql)
--   petstore_report  for reports, by people or programs: reads the books, but no secrets and no sessions
--
-- Run it in the database for Petstore, as a superuser, or as the owner of the database with CREATEROLE, if that role created these
-- roles or may grant them:
--
--   createdb pet_ecommerce
--   psql -d pet_ecommerce -v ON_ERROR_STOP=1 -f sql/roles.sql
--
-- The roles have no passwords: set them (\password petstore_app), or use peer, cert or another method of pg_hba.conf.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'petstore_owner') THEN
        CREATE ROLE petstore_owner LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'petstore_app') THEN
        CREATE ROLE petstore_app LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'petstore_report') THEN
        CREATE ROLE petstore_report LOGIN;
    END IF;
END
$$;

-- A role that is not a superuser must be a member of petstore_owner to create the schema as petstore_owner.
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT petstore_owner TO %I', current_user);
    END IF;
END
$$;

COMMENT ON ROLE petstore_owner IS 'Owns the Petstore schema: DDL, migrations, bulk loads.';
COMMENT ON ROLE petstore_app IS 'For the Petstore service: only the rights that its queries need.';
COMMENT ON ROLE petstore_report IS 'For Petstore reports: reads the books, no secrets, no sessions; cannot write to any table.';

-- For a report over HTTP, the service switches to petstore_report for one transaction (SET LOCAL ROLE). Otherwise it has none of its
-- rights.
ALTER ROLE petstore_app NOINHERIT;
GRANT petstore_report TO petstore_app;

-- So that psql finds the tables without a prefix. The database has the same setting below, for all other roles.
ALTER ROLE petstore_owner SET search_path = m2_be_project;
ALTER ROLE petstore_app SET search_path = m2_be_project;
ALTER ROLE petstore_report SET search_path = m2_be_project;

-- What every session of the service needs: deadlines, so that none holds a row for longer than a request may take, and what its
-- values mean. Here and not in the connection: a connection pooler passes no options on. For psql they are defaults: SET others.
ALTER ROLE petstore_app SET statement_timeout = '2500ms';
ALTER ROLE petstore_app SET lock_timeout = '2s';
ALTER ROLE petstore_app SET idle_in_transaction_session_timeout = '5s';
ALTER ROLE petstore_app SET timezone = 'UTC';
ALTER ROLE petstore_app SET datestyle = 'ISO';

-- Only a default, which a session can change. The tables are safe because petstore_report has no right to write to any.
ALTER ROLE petstore_report SET default_transaction_read_only = on;
-- Enough time for a report on years of invoices. Limited, because a running transaction keeps VACUUM from removing dead rows.
ALTER ROLE petstore_report SET statement_timeout = '60s';
ALTER ROLE petstore_report SET idle_in_transaction_session_timeout = '60s';

-- So that autovacuum gives way to a migration before its lock_timeout ends. Only a superuser can grant it, since PostgreSQL 15.
DO $$
BEGIN
    IF
        current_setting('server_version_num')::integer >= 150000
        AND (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
    THEN
        EXECUTE 'GRANT SET ON PARAMETER deadlock_timeout TO petstore_owner';
    END IF;
END
$$;

-- ALTER DATABASE needs a literal name, hence format().
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = m2_be_project, public', current_database());
    -- A time without an offset is UTC, as in the API, unless the session sets another time zone.
    EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'UTC');
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %I TO petstore_owner', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO petstore_app, petstore_report', current_database());
END
$$;

-- PostgreSQL 14 lets every role create tables in the schema public.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- For scripts/sql --top. Only a superuser can create it, and only if the server has it; everything else works without it. It counts
-- once shared_preload_libraries of the server contains it.
DO $$
BEGIN
    IF
        (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
        AND EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'pg_stat_statements' AND installed_version IS NULL)
    THEN
        CREATE EXTENSION pg_stat_statements SCHEMA public;
    END IF;
END
$$;
