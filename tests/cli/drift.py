"""What a DBA may do to a database by the way, and what `petstore check` says of it."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """sql: what is done, by a superuser; its statements run one by one. said: the comments, without `-- `, in their order.

    harmful: whether it has to be told to whoever watches the service.
    """

    sql: str
    said: list[str]
    harmful: bool


SUPERUSER = " (a superuser has to mend it)"
TABLE = "ALTER TABLE m2_be_project."
OWN = "{own}"  # what a server gives the owner of a table

MUTANTS = {
    "a trigger is disabled": Mutant(
        f"{TABLE}products DISABLE TRIGGER products_update_record_stock",
        ["trigger products.products_update_record_stock is disabled"],
        True,
    ),
    "a trigger fires on replicas only": Mutant(
        f"{TABLE}users ENABLE REPLICA TRIGGER users_stay", ["trigger users.users_stay fires on replicas only"], True
    ),
    "a trigger is gone": Mutant(
        "DROP TRIGGER invoices_total_is_sum ON m2_be_project.invoices",
        ["trigger invoices.invoices_total_is_sum is missing"],
        True,
    ),
    "a trigger does something else": Mutant(
        "CREATE OR REPLACE TRIGGER audit_log_stay BEFORE DELETE ON m2_be_project.audit_log"
        " FOR EACH STATEMENT EXECUTE FUNCTION m2_be_project.refuse_change()",
        ["trigger audit_log.audit_log_stay differs"],
        True,
    ),
    "a trigger too many": Mutant(
        "CREATE TRIGGER mine BEFORE INSERT ON m2_be_project.products FOR EACH ROW EXECUTE FUNCTION m2_be_project.refuse_change()",
        ["trigger products.mine is not Petstore's"],
        True,
    ),
    "foreign keys are not enforced": Mutant(
        f"{TABLE}credit_note_lines DISABLE TRIGGER ALL",
        [
            "trigger credit_note_lines.credit_note_lines_stay is disabled",
            "trigger credit_note_lines.credit_note_lines_count is disabled",
            f"table credit_note_lines does not enforce its foreign keys{SUPERUSER}",
        ],
        True,
    ),
    "a constraint is gone": Mutant(
        f"{TABLE}products DROP CONSTRAINT products_stock_range", ["constraint products.products_stock_range is missing"], True
    ),
    "a constraint differs": Mutant(
        f"{TABLE}products DROP CONSTRAINT products_stock_range, ADD CONSTRAINT products_stock_range CHECK (stock >= -1)",
        ["constraint products.products_stock_range differs"],
        True,
    ),
    "a constraint is not valid": Mutant(
        f"{TABLE}products DROP CONSTRAINT products_stock_range,"
        " ADD CONSTRAINT products_stock_range CHECK (stock BETWEEN 0 AND 1000000000) NOT VALID",
        ["constraint products.products_stock_range is not valid"],
        True,
    ),
    "a constraint too many": Mutant(
        f"{TABLE}products ADD CONSTRAINT cheap CHECK (price < 100)", ["constraint products.cheap is not Petstore's"], True
    ),
    "a foreign key is gone": Mutant(
        f"{TABLE}sessions DROP CONSTRAINT sessions_user_id_fkey", ["constraint sessions.sessions_user_id_fkey is missing"], True
    ),
    "a foreign key deletes": Mutant(
        f"{TABLE}sessions DROP CONSTRAINT sessions_user_id_fkey, ADD CONSTRAINT sessions_user_id_fkey"
        " FOREIGN KEY (user_id) REFERENCES m2_be_project.users ON DELETE CASCADE",
        ["constraint sessions.sessions_user_id_fkey differs"],
        True,
    ),
    "the currency has other digits": Mutant(
        "ALTER DOMAIN m2_be_project.amount DROP CONSTRAINT amount_minor_digits;"
        "ALTER DOMAIN m2_be_project.amount ADD CONSTRAINT amount_minor_digits CHECK (VALUE = round(VALUE, 3))",
        ["constraint amount.amount_minor_digits differs"],
        True,
    ),
    "an index is gone": Mutant("DROP INDEX m2_be_project.invoices_of_user", ["index invoices.invoices_of_user is missing"], True),
    "an index differs": Mutant(
        "DROP INDEX m2_be_project.invoices_of_user;CREATE INDEX invoices_of_user ON m2_be_project.invoices (user_id)",
        ["index invoices.invoices_of_user differs"],
        True,
    ),
    "an index too many": Mutant(
        "CREATE INDEX by_name ON m2_be_project.products (name)", ["index products.by_name is not Petstore's"], False
    ),
    "a unique index too many": Mutant(
        "CREATE UNIQUE INDEX by_name ON m2_be_project.products (name)", ["index products.by_name is not Petstore's"], True
    ),
    "a function has another body": Mutant(
        "CREATE OR REPLACE FUNCTION m2_be_project.refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
        ["function refuse_change() differs"],
        True,
    ),
    "a function has its caller's rights": Mutant(
        "ALTER FUNCTION m2_be_project.record_stock() SECURITY INVOKER", ["function record_stock() differs"], True
    ),
    "a function has another search_path": Mutant(
        "ALTER FUNCTION m2_be_project.record_stock() SET search_path = public", ["function record_stock() differs"], True
    ),
    "a function is gone": Mutant(
        "DROP FUNCTION m2_be_project.next_number(text)", ["function next_number(text) is missing"], True
    ),
    "a function too many": Mutant(
        "CREATE FUNCTION m2_be_project.mine(integer) RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        ["function mine(integer) is not Petstore's"],
        False,
    ),
    "a right is gone": Mutant(
        "REVOKE UPDATE (status) ON m2_be_project.invoices FROM petstore_app",
        ["grant invoices.status petstore_app UPDATE is missing"],
        True,
    ),
    "a right too many": Mutant(
        "GRANT DELETE ON m2_be_project.invoices TO petstore_app",
        ["grant invoices petstore_app DELETE is not Petstore's"],
        False,
    ),
    "a right of everybody": Mutant(
        "GRANT SELECT (password) ON m2_be_project.users TO PUBLIC",
        ["grant users.password PUBLIC SELECT is not Petstore's"],
        False,
    ),
    "a right that can be handed on": Mutant(
        "GRANT SELECT ON m2_be_project.products TO petstore_report WITH GRANT OPTION",
        ["grant products petstore_report SELECT differs"],
        False,
    ),
    "a function of the owner's that everybody may call": Mutant(
        "GRANT EXECUTE ON FUNCTION m2_be_project.record_stock() TO PUBLIC",
        ["grant record_stock() PUBLIC EXECUTE is not Petstore's"],
        False,
    ),
    "everybody may connect": Mutant(
        "GRANT CONNECT ON DATABASE {database} TO PUBLIC",
        [f"grant database PUBLIC CONNECT is not Petstore's{SUPERUSER}"],
        False,
    ),
    "everybody may create tables": Mutant(
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        [f"grant schema public PUBLIC CREATE is not Petstore's{SUPERUSER}"],
        False,
    ),
    "a column too many": Mutant(
        f"{TABLE}products ADD COLUMN weight integer NOT NULL DEFAULT 1",
        ["column products.weight is not Petstore's"],
        True,
    ),
    "a column is gone": Mutant(
        f"{TABLE}invoices DROP COLUMN created_at",
        [
            "column invoices.created_at is missing",
            "index invoices.invoices_age is missing",
            "index invoices.invoices_of_status is missing",
            "index invoices.invoices_of_user is missing",
        ],
        True,
    ),
    "a column is gone and two are there that it may be": Mutant(
        f"{TABLE}sessions RENAME expires_at TO until; {TABLE}sessions ADD COLUMN ends timestamptz",
        [
            "column sessions.expires_at is missing",
            "constraint sessions.sessions_ends_later differs",
            "column sessions.ends is not Petstore's",
            "column sessions.until is not Petstore's",
            "index sessions.sessions_age differs",
        ],
        True,
    ),
    "a column has another type": Mutant(
        f"{TABLE}idempotency_keys ALTER COLUMN location TYPE varchar(200)", ["column idempotency_keys.location differs"], True
    ),
    "a column has another collation": Mutant(
        f'{TABLE}idempotency_keys ALTER COLUMN location TYPE text COLLATE "C"', ["column idempotency_keys.location differs"], True
    ),
    "a column is no longer computed": Mutant(
        f"{TABLE}invoice_details ALTER COLUMN line_total DROP EXPRESSION", ["column invoice_details.line_total differs"], True
    ),
    "a column may be null": Mutant(
        f"{TABLE}sessions ALTER COLUMN expires_at DROP NOT NULL", ["not null sessions.expires_at is missing"], True
    ),
    "a column may not be null": Mutant(
        f"{TABLE}sessions ALTER COLUMN address SET NOT NULL", ["not null sessions.address is not Petstore's"], True
    ),
    "a column has another default": Mutant(
        f"{TABLE}users ALTER COLUMN role SET DEFAULT 'admin'", ["default users.role differs"], True
    ),
    "a column has no default": Mutant(
        f"{TABLE}users ALTER COLUMN active DROP DEFAULT", ["default users.active is missing"], True
    ),
    "a column numbers by twos": Mutant(
        f"{TABLE}invoices ALTER COLUMN id SET INCREMENT BY 2", ["identity invoices.id differs"], True
    ),
    "a column's sequence has another name": Mutant(
        'ALTER SEQUENCE m2_be_project.users_id_seq RENAME TO "next user"', ["identity users.id differs"], True
    ),
    "a column can be given a number": Mutant(
        f"{TABLE}invoices ALTER COLUMN id SET GENERATED BY DEFAULT", ["identity invoices.id differs"], True
    ),
    "a column numbers no longer": Mutant(
        f"{TABLE}products ALTER COLUMN id DROP IDENTITY", ["identity products.id is missing"], True
    ),
    "a table is gone": Mutant(
        "DROP TABLE m2_be_project.number_series",
        [
            "table number_series is missing",
            "constraint number_series.number_series_pkey is missing",
            "constraint number_series.number_series_known is missing",
            "constraint number_series.number_series_positive is missing",
            "constraint number_series.number_series_year_range is missing",
        ],
        True,
    ),
    "a table too many": Mutant(
        "CREATE UNLOGGED TABLE m2_be_project.mine (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, place serial,"
        " user_id bigint NOT NULL DEFAULT 1 REFERENCES m2_be_project.users CHECK (user_id > 0), name text UNIQUE);"
        "GRANT SELECT ON m2_be_project.mine TO petstore_app",
        ["table mine is not Petstore's"],
        False,
    ),
    "a table has another name": Mutant(
        f"{TABLE}stock_movements RENAME TO stock_ledger", ["table stock_movements is named stock_ledger"], True
    ),
    "a table has another name and another owner": Mutant(
        f"{TABLE}number_series RENAME TO series; {TABLE}series OWNER TO CURRENT_USER;"
        "REVOKE SELECT ON m2_be_project.series FROM CURRENT_USER",
        [
            f"owner of number_series is not petstore_owner{SUPERUSER}",
            "grant number_series petstore_owner SELECT is missing",
            "table number_series is named series",
        ],
        True,
    ),
    "a table, and what is in it, has another name": Mutant(
        f'{TABLE}users RENAME TO "the users"; '
        f'{TABLE}"the users" DISABLE TRIGGER users_stay;'
        'ALTER TRIGGER users_stay ON m2_be_project."the users" RENAME TO stay;'
        'CREATE INDEX mine ON m2_be_project."the users" (created_at)',
        [
            'table users is named "the users"',
            "trigger users.users_stay is named stay",
            "trigger users.users_stay is disabled",
            "index users.mine is not Petstore's",
        ],
        True,
    ),
    "a table has another name, which a view took": Mutant(
        f"{TABLE}number_series RENAME TO series; CREATE VIEW m2_be_project.number_series AS TABLE m2_be_project.series",
        ["view number_series is not Petstore's", "table number_series is named series"],
        True,
    ),
    "a table has another name, also in a function": Mutant(
        f"{TABLE}credit_note_lines RENAME TO lines; DO $$ BEGIN EXECUTE replace(pg_get_functiondef("
        "'m2_be_project.check_credit_note_lines()'::regprocedure), 'm2_be_project.credit_note_lines', 'm2_be_project.lines'); END $$",
        ["table credit_note_lines is named lines", "function check_credit_note_lines() differs"],
        True,
    ),
    "columns have other names": Mutant(
        f'{TABLE}products RENAME stock TO "on hand"; {TABLE}invoices RENAME status TO text; {TABLE}users RENAME id TO name;'
        f"{TABLE}invoice_details RENAME unit_price TO price; {TABLE}credit_note_lines RENAME invoice_id TO invoices",
        [
            "column credit_note_lines.invoice_id is named invoices",
            "column invoice_details.unit_price is named price",
            "column invoices.status is named text",
            'column products.stock is named "on hand"',
            "column users.id is named name",
        ],
        True,
    ),
    "constraints have other names": Mutant(
        f"{TABLE}products RENAME CONSTRAINT products_stock_range TO stock; {TABLE}users RENAME CONSTRAINT users_pkey TO users_id;"
        f"{TABLE}sessions RENAME CONSTRAINT sessions_user_id_fkey TO sessions;"
        "ALTER DOMAIN m2_be_project.amount RENAME CONSTRAINT amount_minor_digits TO digits",
        [
            "constraint amount.amount_minor_digits is named digits",
            "constraint products.products_stock_range is named stock",
            "constraint sessions.sessions_user_id_fkey is named sessions",
            "constraint users.users_pkey is named users_id",
        ],
        True,
    ),
    "an index has another name": Mutant(
        "ALTER INDEX m2_be_project.invoices_of_user RENAME TO mine", ["index invoices.invoices_of_user is named mine"], False
    ),
    "a unique index has another name": Mutant(
        "ALTER INDEX m2_be_project.users_email_key RENAME TO email", ["index users.users_email_key is named email"], True
    ),
    "a trigger has another name, and is disabled": Mutant(
        f"ALTER TRIGGER users_stay ON m2_be_project.users RENAME TO users; {TABLE}users DISABLE TRIGGER users",
        ["trigger users.users_stay is named users", "trigger users.users_stay is disabled"],
        True,
    ),
    "a view too many": Mutant(
        "CREATE VIEW m2_be_project.mine AS SELECT id FROM m2_be_project.products", ["view mine is not Petstore's"], False
    ),
    "a table and views of it too many": Mutant(
        "CREATE TABLE m2_be_project.mine (id integer); CREATE VIEW m2_be_project.above AS TABLE m2_be_project.mine;"
        "CREATE MATERIALIZED VIEW m2_be_project.kept AS TABLE m2_be_project.mine;"
        "CREATE INDEX by_id ON m2_be_project.kept (id)",
        [
            "materialized view kept is not Petstore's",
            "view above is not Petstore's",
            "table mine is not Petstore's",
        ],
        False,
    ),
    "a procedure and an aggregate too many": Mutant(
        "CREATE PROCEDURE m2_be_project.mine(integer) LANGUAGE sql AS 'SELECT 1';"
        "CREATE AGGREGATE m2_be_project.added(integer) (SFUNC = int4pl, STYPE = integer)",
        ["routine mine(integer) is not Petstore's", "routine added(integer) is not Petstore's"],
        False,
    ),
    "a sequence too many": Mutant("CREATE SEQUENCE m2_be_project.mine", ["sequence mine is not Petstore's"], False),
    "a type too many": Mutant("CREATE TYPE m2_be_project.mine AS ENUM ('a', 'b')", ["type mine is not Petstore's"], False),
    "a table is lost in a crash": Mutant(f"{TABLE}number_series SET UNLOGGED", ["table number_series is UNLOGGED"], True),
    "a table has full pages": Mutant(
        f"{TABLE}products RESET (fillfactor)", ["table option products.fillfactor is missing"], True
    ),
    "a table has a child": Mutant(
        "CREATE TABLE public.child () INHERITS (m2_be_project.number_series); ALTER TABLE public.child OWNER TO petstore_owner",
        ["inheritance number_series public.child is not Petstore's"],
        True,
    ),
    "a rule drops writes": Mutant(
        "CREATE RULE mine AS ON UPDATE TO m2_be_project.number_series DO INSTEAD NOTHING",
        ["rule number_series.mine is not Petstore's"],
        True,
    ),
    "a policy hides rows": Mutant(
        f"{TABLE}number_series ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY mine ON m2_be_project.number_series FOR SELECT TO petstore_report USING (year > 2020)",
        ["policy number_series.mine is not Petstore's", "table number_series has row security"],
        True,
    ),
    "a table belongs to somebody else": Mutant(
        f"{TABLE}products OWNER TO CURRENT_USER", [f"owner of products is not petstore_owner{SUPERUSER}"], True
    ),
    "a function belongs to somebody else": Mutant(
        "ALTER FUNCTION m2_be_project.record_audit() OWNER TO CURRENT_USER",
        [f"owner of record_audit() is not petstore_owner{SUPERUSER}"],
        True,
    ),
    "the schema belongs to somebody else": Mutant(
        "ALTER SCHEMA m2_be_project OWNER TO CURRENT_USER",
        [f"owner of schema m2_be_project is not petstore_owner{SUPERUSER}"],
        True,
    ),
    "the owner may not write": Mutant(
        "REVOKE ALL ON m2_be_project.number_series FROM petstore_owner; REVOKE INSERT ON m2_be_project.users FROM petstore_owner",
        ["grant users petstore_owner INSERT is missing", f"grant number_series petstore_owner {OWN} is missing"],
        True,
    ),
    "the owner may not use the schema, a function, a domain and a sequence": Mutant(
        "REVOKE USAGE ON SCHEMA m2_be_project FROM petstore_owner;"
        "REVOKE EXECUTE ON FUNCTION m2_be_project.next_number(text) FROM petstore_owner;"
        "REVOKE USAGE ON TYPE m2_be_project.amount FROM petstore_owner;"
        "REVOKE USAGE, UPDATE ON SEQUENCE m2_be_project.users_id_seq FROM petstore_owner",
        [
            "grant schema m2_be_project petstore_owner USAGE is missing",
            "grant users_id_seq petstore_owner UPDATE, USAGE is missing",
            "grant next_number(text) petstore_owner EXECUTE is missing",
            "grant amount petstore_owner USAGE is missing",
        ],
        True,
    ),
    "a table and the rights on it are somebody else's": Mutant(
        f"{TABLE}products OWNER TO CURRENT_USER; REVOKE ALL ON m2_be_project.products FROM CURRENT_USER",
        [f"owner of products is not petstore_owner{SUPERUSER}", f"grant products petstore_owner {OWN} is missing"],
        True,
    ),
    "the database has another time zone": Mutant(
        "ALTER DATABASE {database} SET timezone = 'Europe/Rome'", [f"database setting timezone differs{SUPERUSER}"], False
    ),
    "the service finds no table": Mutant(
        "ALTER ROLE petstore_app IN DATABASE {database} SET search_path = public",
        [f"role setting petstore_app search_path in this database is not Petstore's{SUPERUSER}"],
        False,
    ),
    "the service's commits can be lost": Mutant(
        "ALTER ROLE petstore_app IN DATABASE {database} SET synchronous_commit = off",
        [f"role setting petstore_app synchronous_commit in this database is not Petstore's{SUPERUSER}"],
        True,
    ),
    "the service's commits can be lost with the server": Mutant(
        "ALTER ROLE petstore_app IN DATABASE {database} SET synchronous_commit = 'Local'",
        [f"role setting petstore_app synchronous_commit in this database is not Petstore's{SUPERUSER}"],
        True,
    ),
    "triggers do not fire": Mutant(
        "ALTER DATABASE {database} SET session_replication_role = replica",
        [f"database setting session_replication_role is not Petstore's{SUPERUSER}"],
        True,
    ),
}

# What a value or a statement means, or whether it lasts.
for _setting, _value in {
    "datestyle": "SQL, DMY",
    "intervalstyle": "iso_8601",
    "transform_null_equals": "1",
    "array_nulls": "off",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
}.items():
    MUTANTS[f"{_setting} is set"] = Mutant(
        f"ALTER DATABASE {{database}} SET {_setting} = '{_value}'",
        [f"database setting {_setting} is not Petstore's{SUPERUSER}"],
        True,
    )

# Roles are the whole server's: these are done in a transaction that is rolled back.
ROLES = {
    "the service is a superuser": Mutant("ALTER ROLE petstore_app SUPERUSER", ["role petstore_app differs"], False),
    "the service has the rights for reports": Mutant("ALTER ROLE petstore_app INHERIT", ["role petstore_app differs"], False),
    "reports may make roles": Mutant("ALTER ROLE petstore_report CREATEROLE", ["role petstore_report differs"], False),
    "the service may be the owner": Mutant(
        "GRANT petstore_owner TO petstore_app", ["membership petstore_app petstore_owner is not Petstore's"], False
    ),
    "the owner may be a superuser": Mutant(
        "GRANT postgres TO petstore_owner", ["membership petstore_owner postgres is not Petstore's"], False
    ),
    "reports may be read and written": Mutant(
        "GRANT pg_write_all_data TO petstore_report", ["membership petstore_report pg_write_all_data is not Petstore's"], False
    ),
    "the service runs other code": Mutant(
        "ALTER ROLE petstore_app SET local_preload_libraries = other",
        ["role setting petstore_app local_preload_libraries is not Petstore's"],
        True,
    ),
    "triggers of no role fire": Mutant(
        "ALTER ROLE ALL SET session_replication_role = replica",
        ["role setting ALL session_replication_role is not Petstore's"],
        True,
    ),
    "the service may not report": Mutant(
        "REVOKE petstore_report FROM petstore_app", ["membership petstore_app petstore_report is missing"], False
    ),
    "a role has another path": Mutant(
        "ALTER ROLE petstore_app SET search_path = public", ["role setting petstore_app search_path differs"], False
    ),
    "a role has no path": Mutant(
        "ALTER ROLE petstore_owner RESET search_path", ["role setting petstore_owner search_path is missing"], False
    ),
    "reports take as long as they like": Mutant(
        "ALTER ROLE petstore_report SET statement_timeout = 0", ["role setting petstore_report statement_timeout differs"], False
    ),
    "the service has no deadline": Mutant(
        "ALTER ROLE petstore_app RESET lock_timeout", ["role setting petstore_app lock_timeout is missing"], False
    ),
}

# The same settings, in other words; in a transaction that is rolled back.
SAME = """
    ALTER ROLE petstore_report SET default_transaction_read_only = 'true';
    ALTER ROLE petstore_report SET statement_timeout = '1min';
    ALTER ROLE petstore_report SET idle_in_transaction_session_timeout = 60000;
    ALTER ROLE petstore_app SET statement_timeout = 2500;
    ALTER ROLE petstore_app SET idle_in_transaction_session_timeout = '5000ms'
"""

# What a DBA may do, and operators are told to do.
HARMLESS = """
    CREATE ROLE {role} LOGIN;
    GRANT USAGE ON SCHEMA m2_be_project TO {role};
    GRANT SELECT ON ALL TABLES IN SCHEMA m2_be_project TO {role};
    GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role};
    GRANT petstore_owner TO {role};
    ALTER ROLE petstore_app IN DATABASE {database} SET statement_timeout = '2500ms';
    ALTER ROLE petstore_app IN DATABASE {database} SET lock_timeout = '2s';
    ALTER ROLE petstore_app IN DATABASE {database} SET idle_in_transaction_session_timeout = '5s';
    ALTER ROLE petstore_owner IN DATABASE {database} SET work_mem = '64MB';
    ALTER ROLE petstore_app IN DATABASE {database} SET synchronous_commit = remote_apply;
    ALTER TABLE m2_be_project.products SET (autovacuum_vacuum_scale_factor = 0.01, parallel_workers = 2);
    ALTER TABLE m2_be_project.invoices SET (fillfactor = 90);
    ALTER INDEX m2_be_project.invoices_of_user SET (fillfactor = 70, deduplicate_items = off);
    ALTER INDEX m2_be_project.audit_log_of_account SET (fillfactor = 70);
    ALTER INDEX m2_be_project.invoices_pkey SET (fillfactor = 70);
    ALTER DATABASE {database} SET log_min_duration_statement = 1000;
    ALTER DATABASE {database} CONNECTION LIMIT 90;
    ALTER TABLE m2_be_project.products ALTER COLUMN name SET STATISTICS 500;
    CREATE STATISTICS m2_be_project.mine ON status, user_id FROM m2_be_project.invoices;
    COMMENT ON TABLE m2_be_project.products IS 'Ours.';
    CREATE TABLE public.mine (product_id bigint REFERENCES m2_be_project.products);
    CREATE EXTENSION IF NOT EXISTS pg_stat_statements SCHEMA public;
    CLUSTER m2_be_project.products USING products_pkey;
    ALTER TABLE m2_be_project.products REPLICA IDENTITY FULL
"""
