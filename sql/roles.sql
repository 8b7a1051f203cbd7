-- The three roles of a Petstore database, and what belongs to the database itself. Can be run again at any time.
--
--   petstore_owner   owns the schema: DDL, migrations, bulk loads, maintenance
--   petstore_app     what the service connects as: exactly what its queries need (granted in schema.sql), nothing more
--   petstore_report  for people and programs that make reports: reads the books, and neither secrets nor logins
--
-- Run as a superuser, inside the database meant for Petstore; or as its owner with CREATEROLE, who has made these roles (or may grant
-- them):
--
--   createdb pet_ecommerce
--   psql -d pet_ecommerce -v ON_ERROR_STOP=1 -f sql/roles.sql
--
-- No role has a password: give them one (\password petstore_app) or use peer, cert or any other method of pg_hba.conf.

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

-- Whoever is no superuser must be a member of petstore_owner to make the schema in its name.
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT petstore_owner TO %I', current_user);
    END IF;
END
$$;

COMMENT ON ROLE petstore_owner IS 'Owns the Petstore schema: DDL, migrations, bulk loads.';
COMMENT ON ROLE petstore_app IS 'What the Petstore service connects as: what its queries need, nothing more.';
COMMENT ON ROLE petstore_report IS 'Reads the books of Petstore for reports: no secrets, no logins; may write to no table.';

-- Reports that are asked for over HTTP run with the rights of petstore_report, which the service takes on for just that transaction
-- (SET LOCAL ROLE): it inherits none of them.
ALTER ROLE petstore_app NOINHERIT;
GRANT petstore_report TO petstore_app;

-- A plain psql finds the tables too: the path is set on the database for everybody, and on the roles wherever they go.
ALTER ROLE petstore_owner SET search_path = m2_be_project;
ALTER ROLE petstore_app SET search_path = m2_be_project;
ALTER ROLE petstore_report SET search_path = m2_be_project;

-- What guards the tables is that it has no right to write to any. These are defaults, which a session can SET otherwise.
ALTER ROLE petstore_report SET default_transaction_read_only = on;
-- Time for a report on years of invoices. While one runs, VACUUM cannot remove what purchases leave behind, so an endless or
-- forgotten one ends by itself.
ALTER ROLE petstore_report SET statement_timeout = '60s';
ALTER ROLE petstore_report SET idle_in_transaction_session_timeout = '60s';

-- ALTER DATABASE takes no expression for its name, hence format().
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = m2_be_project, public', current_database());
    -- A time without an offset is UTC, as in the API; a session can SET timezone otherwise.
    EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), 'UTC');
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %I TO petstore_owner', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO petstore_app, petstore_report', current_database());
END
$$;

-- PostgreSQL 14 still lets everybody create tables in public.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- Which statements cost the most (scripts/sql --top). Only a superuser can make it, and only where the server has it: elsewhere all
-- else works without. It counts once the server's shared_preload_libraries names it.
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
