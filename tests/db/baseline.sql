-- The whole Petstore schema, for PostgreSQL 14 and newer. Run once, in an empty database, after roles.sql:
--
--   psql -d pet_ecommerce -U petstore_owner -v ON_ERROR_STOP=1 -f sql/schema.sql
--
-- The currency is fixed here, for ever: US dollars with two digits after the point, or any other ISO 4217 currency with its own
-- number of digits, given as two settings of the session:
--
--   PGOPTIONS="-c petstore.currency=JPY -c petstore.minor_digits=0" psql ... -f sql/schema.sql
--
-- Everything happens in one transaction. A superuser may run it too: the tables belong to petstore_owner all the same.

BEGIN;

-- Emails are unique without regard to case, in all alphabets: the database must know their letters.
DO $$
BEGIN
    IF current_setting('server_encoding') <> 'UTF8' OR lower('ÄŽΩ') <> 'äžω' THEN
        RAISE EXCEPTION 'this database does not know letters beyond ASCII'
            USING HINT = 'Make it with: createdb --template=template0 --encoding=UTF8 --locale=C.UTF-8 (or your own UTF-8 locale).';
    END IF;
END
$$;

SET LOCAL ROLE petstore_owner;

CREATE SCHEMA m2_be_project;
COMMENT ON SCHEMA m2_be_project IS 'The pet shop: accounts, catalogue, purchases, invoices.';
GRANT USAGE ON SCHEMA m2_be_project TO petstore_app, petstore_report;

SET LOCAL search_path = m2_be_project;


-- ── what this database is ────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE schema_version (
    version integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT schema_version_pkey PRIMARY KEY (version),
    CONSTRAINT schema_version_positive CHECK (version > 0)
);
COMMENT ON TABLE schema_version
IS 'Which schema this is: the highest version counts. The service refuses to work on any but its own.';
COMMENT ON COLUMN schema_version.version
IS 'What sql/schema.sql writes, and the service was made for; the greatest row is what the database is now.';
COMMENT ON COLUMN schema_version.applied_at IS 'When the schema was brought to this version.';
COMMENT ON CONSTRAINT schema_version_pkey ON schema_version IS 'No version is applied twice.';
COMMENT ON CONSTRAINT schema_version_positive ON schema_version IS 'Versions count from 1.';
GRANT SELECT ON schema_version TO petstore_app, petstore_report;

INSERT INTO schema_version (version) VALUES (5);

CREATE TABLE shop (
    id integer NOT NULL DEFAULT 1,
    currency text NOT NULL,
    minor_digits integer NOT NULL,
    instance_id uuid NOT NULL DEFAULT gen_random_uuid(),
    CONSTRAINT shop_pkey PRIMARY KEY (id),
    CONSTRAINT shop_single_row CHECK (id = 1),
    CONSTRAINT shop_currency_iso_4217 CHECK (currency ~ '^[A-Z]{3}$'),
    CONSTRAINT shop_minor_digits_range CHECK (minor_digits BETWEEN 0 AND 4)
);
COMMENT ON TABLE shop IS 'The one row of facts that are fixed when the schema is made.';
COMMENT ON COLUMN shop.id IS 'Always 1, so that there is no second row.';
COMMENT ON COLUMN shop.currency IS 'ISO 4217 code of every amount in this database.';
COMMENT ON COLUMN shop.minor_digits IS 'Digits after the point that the currency has: 2 for USD, 0 for JPY, 3 for KWD.';
COMMENT ON COLUMN shop.instance_id IS 'Tells this database from every other: the cache keeps its entries apart by it.';
COMMENT ON CONSTRAINT shop_pkey ON shop IS 'With shop_single_row: one row at most.';
COMMENT ON CONSTRAINT shop_single_row ON shop IS 'A database is one shop, with one currency.';
COMMENT ON CONSTRAINT shop_currency_iso_4217 ON shop
IS 'Three capital letters, as in ISO 4217; whether they are a currency is for the service to know.';
COMMENT ON CONSTRAINT shop_minor_digits_range ON shop IS 'ISO 4217 has currencies without minor digits and with up to four.';
GRANT SELECT ON shop TO petstore_app, petstore_report;

INSERT INTO shop (currency, minor_digits)
SELECT
    coalesce(given.currency, 'USD') AS currency,
    -- Of a currency that is given, the digits must be too: NULL is refused.
    CASE WHEN given.currency IS NULL THEN 2 ELSE given.minor_digits END AS minor_digits
FROM (
    SELECT
        nullif(current_setting('petstore.currency', true), '') AS currency,
        nullif(current_setting('petstore.minor_digits', true), '')::integer AS minor_digits
) AS given;

-- An amount of money: exact, never negative, never NaN (which sorts above every number, so the upper bound keeps it out),
-- with no more digits than the currency has. A CHECK cannot read shop, so the number of digits is written into it here.
DO $$
BEGIN
    EXECUTE format(
        'CREATE DOMAIN amount AS numeric'
        ' CONSTRAINT amount_range CHECK (VALUE BETWEEN 0 AND 9999999999999999)'
        ' CONSTRAINT amount_minor_digits CHECK (VALUE = round(VALUE, %s))',
        (SELECT minor_digits FROM shop)
    );
END
$$;
COMMENT ON DOMAIN amount IS 'Money in the currency of the shop: exact, not negative, at most its minor digits.';
COMMENT ON CONSTRAINT amount_range ON DOMAIN amount
IS 'Keeps out NaN, which sorts above every number; the bound itself is beyond any invoice.';
COMMENT ON CONSTRAINT amount_minor_digits ON DOMAIN amount IS 'A fraction of the smallest coin is refused, never rounded.';

CREATE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'what is written in % stays as it is', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Correct it by a new row: an UPDATE of products.stock, a credit note.';
END
$$;
COMMENT ON FUNCTION refuse_change()
IS 'For triggers: keeps the books append-only, for the owner too, who may only TRUNCATE them.';


-- ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY,
    email text,
    password text,
    role text NOT NULL DEFAULT 'user',
    active boolean NOT NULL DEFAULT true,
    token_version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    erased_at timestamptz,
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_email_form CHECK (char_length(email) BETWEEN 3 AND 254 AND email LIKE '_%@_%'),
    -- The cost is bounded too: whoever checks a password has to spend m KiB and t passes on it.
    CONSTRAINT users_password_is_a_hash CHECK (
        password ~ '^\$argon2id\$v=19\$m=[0-9]{1,6},t=[0-9]{1,2},p=[0-9]{1,2}\$[A-Za-z0-9+/]{1,86}\$[A-Za-z0-9+/]{1,86}$'
    ),
    CONSTRAINT users_role_known CHECK (role IN ('user', 'admin')),
    CONSTRAINT users_token_version_positive CHECK (token_version > 0),
    CONSTRAINT users_whole_or_erased CHECK (
        CASE
            WHEN erased_at IS NULL THEN email IS NOT NULL AND password IS NOT NULL
            ELSE email IS NULL AND password IS NULL AND role = 'user' AND NOT active
        END
    )
);
COMMENT ON TABLE users
IS 'Everybody who can log in, or could. A row stays, because invoices name it; erasing takes out what is personal.';
COMMENT ON COLUMN users.id IS 'Never given again; the claim sub of access tokens.';
COMMENT ON COLUMN users.email IS 'As typed; unique without regard to case. NULL when erased.';
COMMENT ON COLUMN users.password IS 'Argon2id hash as a PHC string, never the password. NULL when erased.';
COMMENT ON COLUMN users.role IS 'user: buys. admin: keeps the catalogue and the invoices too.';
COMMENT ON COLUMN users.active IS 'false: disabled by an admin, or erased. No login, and no token counts.';
COMMENT ON COLUMN users.token_version IS 'Grows when every login of the account has to end: a new password, disabling, erasing.';
COMMENT ON COLUMN users.created_at IS 'When the account was registered.';
COMMENT ON COLUMN users.erased_at IS 'When the account was deleted by its owner; NULL while it stands.';
COMMENT ON CONSTRAINT users_pkey ON users IS 'Invoices, events, movements, logins and keys name their user by it.';
COMMENT ON CONSTRAINT users_email_form ON users
IS 'The least there is to an address, 254 characters at most (RFC 5321); the service checks the rest.';
COMMENT ON CONSTRAINT users_password_is_a_hash ON users
IS 'Argon2id as a PHC string with a bounded cost: neither a password in clear nor a hash that takes minutes gets in.';
COMMENT ON CONSTRAINT users_role_known ON users
IS 'The roles that the service knows; what each may do stands in its route table.';
COMMENT ON CONSTRAINT users_token_version_positive ON users IS 'Counts from 1.';
COMMENT ON CONSTRAINT users_whole_or_erased ON users
IS 'Email and password are there, or all that is personal is gone; nothing in between.';

CREATE UNIQUE INDEX users_email_key ON users (lower(normalize(email)));
COMMENT ON INDEX users_email_key
IS 'One account per address, however its letters are cased or composed; also what login looks up.';

CREATE INDEX users_active_admins ON users (id) WHERE role = 'admin' AND active;
COMMENT ON INDEX users_active_admins IS 'Whether there is another admin, without walking over all customers.';

GRANT
SELECT, INSERT (email, password, role), UPDATE (email, password, role, active, token_version, erased_at)
ON users TO petstore_app;

-- By column: neither the hash of a password nor what ends logins is anything to report.
GRANT SELECT (id, email, role, active, created_at, erased_at) ON users TO petstore_report;

CREATE TRIGGER users_stay BEFORE DELETE ON users
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER users_stay ON users IS 'Accounts are erased by an UPDATE, never deleted: the books name them.';

CREATE TRIGGER users_ended_stays_ended BEFORE UPDATE ON users
FOR EACH ROW WHEN (old.erased_at IS NOT NULL OR new.token_version < old.token_version)
EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER users_ended_stays_ended ON users IS 'An erased account does not come back, and no old token gets valid again.';

CREATE TABLE sessions (
    id bigint GENERATED ALWAYS AS IDENTITY,
    user_id bigint NOT NULL,
    token_version integer NOT NULL,
    address inet,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    end_reason text,
    CONSTRAINT sessions_pkey PRIMARY KEY (id),
    CONSTRAINT sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users,
    CONSTRAINT sessions_ends_later CHECK (expires_at > created_at),
    CONSTRAINT sessions_end_reason_known CHECK (end_reason IN ('logout', 'reuse')),
    CONSTRAINT sessions_ended_whole CHECK ((ended_at IS NULL) = (end_reason IS NULL))
);
COMMENT ON TABLE sessions
IS 'Logins. One lives while it is neither ended nor expired, its user is active, and its token_version is still the user''s.';
COMMENT ON COLUMN sessions.id IS 'Never given again; the claim sid of access tokens.';
COMMENT ON COLUMN sessions.user_id IS 'Who logged in.';
COMMENT ON COLUMN sessions.token_version IS 'That of the user at the login.';
COMMENT ON COLUMN sessions.address IS 'Where the login came from.';
COMMENT ON COLUMN sessions.created_at IS 'The moment of the login; no refresh prolongs it beyond a year from here.';
COMMENT ON COLUMN sessions.expires_at
IS 'Until when its refresh token can be used; each use prolongs it, to a year after the login at most.';
COMMENT ON COLUMN sessions.ended_at IS 'When it was ended before its time; NULL while it lives, and when it just expired.';
COMMENT ON COLUMN sessions.end_reason IS 'logout; or reuse: a refresh token was used twice, so somebody else may have it.';
COMMENT ON CONSTRAINT sessions_pkey ON sessions IS 'What access tokens and refresh tokens name their login by.';
COMMENT ON CONSTRAINT sessions_user_id_fkey ON sessions IS 'Only an account can log in; an erased one has its logins deleted.';
COMMENT ON CONSTRAINT sessions_ends_later ON sessions IS 'A login lives for some time at least.';
COMMENT ON CONSTRAINT sessions_end_reason_known ON sessions
IS 'The two ways to end one login; what ends them all is users.token_version.';
COMMENT ON CONSTRAINT sessions_ended_whole ON sessions IS 'What was ended says why, and nothing else does.';

CREATE INDEX sessions_of_user ON sessions (user_id);
COMMENT ON INDEX sessions_of_user IS 'The logins of one account.';

CREATE INDEX sessions_age ON sessions (expires_at);
COMMENT ON INDEX sessions_age IS 'What is long over, to be removed.';

GRANT
SELECT, INSERT (user_id, token_version, address, expires_at), UPDATE (expires_at, ended_at, end_reason), DELETE
ON sessions TO petstore_app;

CREATE TRIGGER sessions_ended_stays_ended BEFORE UPDATE OF ended_at, end_reason ON sessions
FOR EACH ROW WHEN (old.ended_at IS NOT NULL)
EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER sessions_ended_stays_ended ON sessions IS 'A login that was ended is never revived.';

CREATE TABLE refresh_tokens (
    token_hash bytea NOT NULL,
    session_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz,
    CONSTRAINT refresh_tokens_pkey PRIMARY KEY (token_hash),
    CONSTRAINT refresh_tokens_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions ON DELETE CASCADE,
    CONSTRAINT refresh_tokens_hash_sha256 CHECK (octet_length(token_hash) = 32)
);
COMMENT ON TABLE refresh_tokens IS 'The refresh tokens of logins, used and unused: only the newest of a login is unused.';
COMMENT ON COLUMN refresh_tokens.token_hash IS 'SHA-256 of the token, which has 256 random bits; the token itself is nowhere.';
COMMENT ON COLUMN refresh_tokens.session_id IS 'The login that it prolongs.';
COMMENT ON COLUMN refresh_tokens.created_at IS 'When it was given to the client.';
COMMENT ON COLUMN refresh_tokens.used_at IS 'When it was traded for the next one; NULL for the newest.';
COMMENT ON CONSTRAINT refresh_tokens_pkey ON refresh_tokens IS 'A token that is shown is looked up by its hash.';
COMMENT ON CONSTRAINT refresh_tokens_session_id_fkey ON refresh_tokens IS 'The tokens of a login are deleted with it.';
COMMENT ON CONSTRAINT refresh_tokens_hash_sha256 ON refresh_tokens IS 'SHA-256 has 32 bytes: no token in clear by mistake.';

CREATE INDEX refresh_tokens_of_session ON refresh_tokens (session_id);
COMMENT ON INDEX refresh_tokens_of_session IS 'What goes with a login that is removed.';

CREATE INDEX refresh_tokens_used ON refresh_tokens (used_at) WHERE used_at IS NOT NULL;
COMMENT ON INDEX refresh_tokens_used IS 'What was used long ago, to be removed.';

GRANT SELECT, INSERT (token_hash, session_id), UPDATE (used_at), DELETE ON refresh_tokens TO petstore_app;


-- ── audit log ────────────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY,
    created_at timestamptz NOT NULL DEFAULT now(),
    actor_id bigint,
    action text NOT NULL,
    subject_id bigint NOT NULL,
    fields text[] NOT NULL,
    CONSTRAINT audit_log_pkey PRIMARY KEY (id),
    CONSTRAINT audit_log_action_form CHECK (action ~ '^[a-z_]{1,30}\.[a-z]{1,10}$')
);
COMMENT ON TABLE audit_log
IS 'Who changed what, and when: ids and names of columns, never a value. '
'Append-only; written by triggers, whoever changes a row.';
COMMENT ON COLUMN audit_log.id IS 'Grows with the entries; of two that overlap in time, not always in the order of created_at.';
COMMENT ON COLUMN audit_log.created_at IS 'Start of the transaction that made the change.';
COMMENT ON COLUMN audit_log.actor_id IS 'The user who did it; NULL for a change made in SQL or at the command line.';
COMMENT ON COLUMN audit_log.action IS 'What was changed, and how: user.update, product.create, session.end.';
COMMENT ON COLUMN audit_log.subject_id IS 'The id of the row that was changed.';
COMMENT ON COLUMN audit_log.fields IS 'The columns that an update changed.';
COMMENT ON CONSTRAINT audit_log_pkey ON audit_log IS 'What an address names its entry by.';
COMMENT ON CONSTRAINT audit_log_action_form ON audit_log IS 'Subject, point, verb: user.update. No room for a value.';

CREATE INDEX audit_log_age ON audit_log (created_at, id);
COMMENT ON INDEX audit_log_age IS 'The log by time.';

CREATE INDEX audit_log_of_actor ON audit_log (actor_id, created_at, id);
COMMENT ON INDEX audit_log_of_actor IS 'What one user did, by time.';

CREATE INDEX audit_log_of_action ON audit_log (action, created_at, id);
COMMENT ON INDEX audit_log_of_action IS 'One kind of entries by time, however rare they are.';

CREATE INDEX audit_log_of_account ON audit_log (subject_id) WHERE action LIKE 'user.%';
COMMENT ON INDEX audit_log_of_account IS 'What was done to one account.';

GRANT SELECT ON audit_log TO petstore_app;

CREATE TRIGGER audit_log_stay BEFORE UPDATE OR DELETE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER audit_log_stay ON audit_log IS 'The log is only ever added to.';

CREATE TABLE audit_addresses (
    audit_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    address inet NOT NULL,
    CONSTRAINT audit_addresses_pkey PRIMARY KEY (audit_id),
    CONSTRAINT audit_addresses_audit_id_fkey FOREIGN KEY (audit_id) REFERENCES audit_log
);
COMMENT ON TABLE audit_addresses
IS 'From which address what the log tells was asked for. '
'Apart from it, so that it can be erased: with the account, or after 90 days.';
COMMENT ON COLUMN audit_addresses.audit_id IS 'The entry that it belongs to.';
COMMENT ON COLUMN audit_addresses.created_at IS 'That of the entry; 90 days from here it is removed.';
COMMENT ON COLUMN audit_addresses.address IS 'Client of the request, as the trusted proxies tell it.';
COMMENT ON CONSTRAINT audit_addresses_pkey ON audit_addresses IS 'One address per entry.';
COMMENT ON CONSTRAINT audit_addresses_audit_id_fkey ON audit_addresses
IS 'No address without an entry; entries without an address are many.';

CREATE INDEX audit_addresses_age ON audit_addresses (created_at);
COMMENT ON INDEX audit_addresses_age IS 'What is older than 90 days, to be removed.';

GRANT SELECT, DELETE ON audit_addresses TO petstore_app;

CREATE FUNCTION begin_request(request jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM set_config('petstore.request', request::text, true);
    -- A write finds its rows by their keys: one plan is good for all values. To plan a purchase anew takes half as long as to make it.
    PERFORM set_config('plan_cache_mode', 'force_generic_plan', true);
    IF request ->> 'actor_id' IS NOT NULL THEN
        PERFORM FROM m2_be_project.users WHERE id = (request ->> 'actor_id')::bigint AND active FOR KEY SHARE;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'user % is not active', request ->> 'actor_id'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'users_actor_active';
        END IF;
    END IF;
END
$$;
COMMENT ON FUNCTION begin_request(jsonb)
IS 'What the service calls first in each transaction: {"actor_id", "address"}, which the audit log believes. '
'Who asks cannot be erased amid it.';

CREATE FUNCTION record_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = m2_be_project, pg_temp
AS $$
DECLARE
    -- What the service says of the request that runs this transaction; a session of psql says nothing.
    request jsonb := nullif(current_setting('petstore.request', true), '');
    actor bigint := request ->> 'actor_id';
    client inet := request ->> 'address';
    changed text[] := '{}';
    entry bigint;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        changed := array(
            SELECT a.key FROM jsonb_each(to_jsonb(new)) AS a
            WHERE a.value <> to_jsonb(old) -> a.key AND a.key NOT IN ('version', 'token_version', 'updated_at')
            ORDER BY a.key
        );
        IF changed = '{}' THEN
            RETURN NULL;
        END IF;
    END IF;
    -- Who registers, logs in or out has no token to show: it is the account itself that acts.
    IF request IS NOT NULL AND actor IS NULL THEN
        actor := CASE TG_TABLE_NAME WHEN 'users' THEN to_jsonb(new) ->> 'id' WHEN 'sessions' THEN to_jsonb(new) ->> 'user_id' END;
    END IF;
    INSERT INTO audit_log (actor_id, action, subject_id, fields) VALUES (actor, TG_ARGV[0], new.id, changed)
    RETURNING id INTO entry;
    IF client IS NOT NULL THEN
        INSERT INTO audit_addresses (audit_id, address) VALUES (entry, client);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION record_audit()
IS 'Writes the audit log: one row for each row that is made or changed, under the action that the trigger names.';
REVOKE EXECUTE ON FUNCTION record_audit() FROM PUBLIC;

-- A row made in SQL tells by itself when it was made, and nobody knows who did it: of those, only a new admin is recorded.
CREATE TRIGGER users_create_audit AFTER INSERT ON users
FOR EACH ROW WHEN (new.role = 'admin' OR current_setting('petstore.request', true) <> '')
EXECUTE FUNCTION record_audit('user.create');
COMMENT ON TRIGGER users_create_audit ON users IS 'Registrations through the service; of accounts made in SQL, the admins.';

CREATE TRIGGER users_update_audit AFTER UPDATE ON users
FOR EACH ROW WHEN (new.erased_at IS NULL)
EXECUTE FUNCTION record_audit('user.update');
COMMENT ON TRIGGER users_update_audit ON users IS 'That role, active, email or password were changed, and never to what.';

CREATE TRIGGER users_erase_audit AFTER UPDATE ON users
FOR EACH ROW WHEN (new.erased_at IS NOT NULL)
EXECUTE FUNCTION record_audit('user.erase');
COMMENT ON TRIGGER users_erase_audit ON users IS 'An erasure, under an action of its own.';

CREATE TRIGGER sessions_start_audit AFTER INSERT ON sessions
FOR EACH ROW WHEN (current_setting('petstore.request', true) <> '')
EXECUTE FUNCTION record_audit('session.start');
COMMENT ON TRIGGER sessions_start_audit ON sessions IS 'Logins through the service.';

CREATE TRIGGER sessions_end_audit AFTER UPDATE OF ended_at ON sessions
FOR EACH ROW EXECUTE FUNCTION record_audit('session.end');
COMMENT ON TRIGGER sessions_end_audit ON sessions IS 'Logouts, and stolen refresh tokens that gave themselves away.';


-- ── catalogue ────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- fillfactor: purchases change stock all the time; free room on the page keeps those updates off the indexes (HOT).
CREATE TABLE products (
    id bigint GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    price amount NOT NULL,
    stock integer NOT NULL,
    version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    CONSTRAINT products_pkey PRIMARY KEY (id),
    CONSTRAINT products_name_length CHECK (char_length(name) BETWEEN 1 AND 200),
    CONSTRAINT products_name_trimmed CHECK (name = btrim(name)),
    CONSTRAINT products_price_range CHECK (price <= 999999999),
    CONSTRAINT products_stock_range CHECK (stock BETWEEN 0 AND 1000000000),
    CONSTRAINT products_version_positive CHECK (version > 0)
) WITH (fillfactor = 85);
COMMENT ON TABLE products IS 'What is and was on sale. A deleted product keeps its row, because invoices name it.';
COMMENT ON COLUMN products.id IS 'Never given again; the catalogue is listed, and a purchase locks, in its order.';
COMMENT ON COLUMN products.name IS 'What it is called now; an invoice keeps the name of its day.';
COMMENT ON COLUMN products.price IS 'Price of one piece today; an invoice keeps the price of its day.';
COMMENT ON COLUMN products.stock
IS 'Pieces that can be sold now. Every change, also one made in psql, is written into stock_movements.';
COMMENT ON COLUMN products.version IS 'Grows with each edit by an admin, not with purchases.';
COMMENT ON COLUMN products.created_at IS 'When it came into the catalogue.';
COMMENT ON COLUMN products.updated_at IS 'Time of the last edit by an admin; purchases leave it.';
COMMENT ON COLUMN products.deleted_at IS 'NULL while on sale.';
COMMENT ON CONSTRAINT products_pkey ON products IS 'Lines of invoices and movements of stock name a product by it.';
COMMENT ON CONSTRAINT products_name_length ON products IS '1 to 200 characters, as the service promises its clients.';
COMMENT ON CONSTRAINT products_name_trimmed ON products IS 'No spaces at the ends, so that names that look alike are alike.';
COMMENT ON CONSTRAINT products_price_range ON products
IS '999,999,999 at most: a line of a million pieces still fits into amount.';
COMMENT ON CONSTRAINT products_stock_range ON products IS 'Never below zero: the last guard against selling what is not there.';
COMMENT ON CONSTRAINT products_version_positive ON products IS 'Counts from 1.';

CREATE INDEX products_on_sale ON products (id) WHERE deleted_at IS NULL;
COMMENT ON INDEX products_on_sale IS 'Pages of the catalogue, without walking over what was deleted.';

GRANT
SELECT, INSERT (name, price, stock), UPDATE (name, price, stock, version, updated_at, deleted_at)
ON products TO petstore_app;

GRANT SELECT ON products TO petstore_report;

CREATE TRIGGER products_create_audit AFTER INSERT ON products
FOR EACH ROW WHEN (current_setting('petstore.request', true) <> '')
EXECUTE FUNCTION record_audit('product.create');
COMMENT ON TRIGGER products_create_audit ON products
IS 'New products, through the service; of those made in SQL the ledger tells.';

-- Of a change of stock alone, as a purchase makes it, the ledger tells.
CREATE TRIGGER products_update_audit AFTER UPDATE OF name, price, version, deleted_at ON products
FOR EACH ROW WHEN (old.deleted_at IS NOT NULL OR new.deleted_at IS NULL)
EXECUTE FUNCTION record_audit('product.update');
COMMENT ON TRIGGER products_update_audit ON products IS 'Edits of name, price or version, and a product that comes back.';

CREATE TRIGGER products_delete_audit AFTER UPDATE OF deleted_at ON products
FOR EACH ROW WHEN (old.deleted_at IS NULL AND new.deleted_at IS NOT NULL)
EXECUTE FUNCTION record_audit('product.delete');
COMMENT ON TRIGGER products_delete_audit ON products IS 'A product that is taken off sale, under an action of its own.';


-- ── invoices ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE invoice_statuses (
    status text NOT NULL,
    CONSTRAINT invoice_statuses_pkey PRIMARY KEY (status),
    CONSTRAINT invoice_statuses_form CHECK (status ~ '^[a-z]{1,20}$')
);
COMMENT ON TABLE invoice_statuses IS 'The states of an invoice.';
COMMENT ON COLUMN invoice_statuses.status IS 'In small letters; the API shows it as it is.';
COMMENT ON CONSTRAINT invoice_statuses_pkey ON invoice_statuses IS 'Each state once.';
COMMENT ON CONSTRAINT invoice_statuses_form ON invoice_statuses IS 'One plain word, 20 letters at most.';
GRANT SELECT ON invoice_statuses TO petstore_report;

INSERT INTO invoice_statuses (status)
VALUES ('pending'), ('paid'), ('shipped'), ('delivered'), ('cancelled'), ('refunded');

CREATE TABLE invoice_transitions (
    from_status text NOT NULL,
    to_status text NOT NULL,
    CONSTRAINT invoice_transitions_pkey PRIMARY KEY (from_status, to_status),
    CONSTRAINT invoice_transitions_from_status_fkey FOREIGN KEY (from_status) REFERENCES invoice_statuses,
    CONSTRAINT invoice_transitions_to_status_fkey FOREIGN KEY (to_status) REFERENCES invoice_statuses,
    CONSTRAINT invoice_transitions_moves CHECK (from_status <> to_status)
);
COMMENT ON TABLE invoice_transitions
IS 'Which state may follow which: the only place that says so. What has no row here is final.';
COMMENT ON COLUMN invoice_transitions.from_status IS 'The state that is left.';
COMMENT ON COLUMN invoice_transitions.to_status IS 'The state that is entered.';
COMMENT ON CONSTRAINT invoice_transitions_pkey ON invoice_transitions
IS 'Each step once; the trigger invoices_enter_status looks here.';
COMMENT ON CONSTRAINT invoice_transitions_from_status_fkey ON invoice_transitions IS 'Steps lead away from states that exist.';
COMMENT ON CONSTRAINT invoice_transitions_to_status_fkey ON invoice_transitions IS 'Steps lead to states that exist.';
COMMENT ON CONSTRAINT invoice_transitions_moves ON invoice_transitions IS 'To stay in a state is no step, and no event.';
GRANT SELECT ON invoice_transitions TO petstore_app, petstore_report;

INSERT INTO invoice_transitions (from_status, to_status)
VALUES
('pending', 'paid'),
('pending', 'cancelled'),
('paid', 'shipped'),
('paid', 'refunded'),
('shipped', 'delivered'),
('shipped', 'refunded'),
('delivered', 'refunded');

CREATE TABLE invoices (
    id bigint GENERATED ALWAYS AS IDENTITY,
    number text,
    user_id bigint NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    total amount NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT invoices_pkey PRIMARY KEY (id),
    CONSTRAINT invoices_number_key UNIQUE (number),
    CONSTRAINT invoices_number_form CHECK (number ~ '^[0-9]{4}-[0-9]{6,}$'),
    CONSTRAINT invoices_number_since_paid CHECK ((number IS NULL) = (status IN ('pending', 'cancelled'))),
    CONSTRAINT invoices_user_id_fkey FOREIGN KEY (user_id) REFERENCES users,
    CONSTRAINT invoices_status_fkey FOREIGN KEY (status) REFERENCES invoice_statuses
);
COMMENT ON TABLE invoices IS 'One row per purchase.';
COMMENT ON COLUMN invoices.id IS 'What the API calls an invoice; has gaps, unlike its number.';
COMMENT ON COLUMN invoices.number
IS 'Given when it becomes paid: the next of its UTC year, without gaps (number_series). 2026-000001';
COMMENT ON COLUMN invoices.user_id IS 'The buyer; only they and admins see it.';
COMMENT ON COLUMN invoices.status IS 'Where it stands in invoice_transitions; changed by an UPDATE, which a trigger checks.';
COMMENT ON COLUMN invoices.total IS 'Sum of the line totals; never changes.';
COMMENT ON COLUMN invoices.created_at IS 'Moment of the purchase. The number follows the year of the payment, not this.';
COMMENT ON CONSTRAINT invoices_pkey ON invoices IS 'Lines, events, credit notes and movements name an invoice by it.';
COMMENT ON CONSTRAINT invoices_number_key ON invoices IS 'No number is given twice.';
COMMENT ON CONSTRAINT invoices_number_form ON invoices IS 'Year, hyphen, at least six digits: 2026-000001.';
COMMENT ON CONSTRAINT invoices_number_since_paid ON invoices
IS 'Paid once means numbered; what was never paid uses no number up.';
COMMENT ON CONSTRAINT invoices_user_id_fkey ON invoices IS 'Every invoice has its buyer, who stays as a row even when erased.';
COMMENT ON CONSTRAINT invoices_status_fkey ON invoices IS 'Only states that are in invoice_statuses.';

CREATE INDEX invoices_of_user ON invoices (user_id, created_at, id);
COMMENT ON INDEX invoices_of_user IS 'A customer''s invoices by time.';

CREATE INDEX invoices_age ON invoices (created_at, id);
COMMENT ON INDEX invoices_age IS 'All customers'' invoices by time.';

CREATE INDEX invoices_of_status ON invoices (status, created_at, id);
COMMENT ON INDEX invoices_of_status IS 'The invoices in one state by time: what waits to be paid, longest first.';

GRANT SELECT, INSERT (user_id, total), UPDATE (status) ON invoices TO petstore_app;
GRANT SELECT ON invoices TO petstore_report;

CREATE TRIGGER invoices_stay BEFORE DELETE ON invoices
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER invoices_stay ON invoices IS 'An invoice is cancelled or credited, never deleted.';

CREATE TRIGGER invoices_amount_fixed BEFORE UPDATE OF total, number ON invoices
FOR EACH ROW WHEN (new.total <> old.total OR (old.number IS NOT NULL AND new.number IS DISTINCT FROM old.number))
EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER invoices_amount_fixed ON invoices IS 'Neither total nor a number that was given ever changes.';

CREATE TRIGGER invoices_create_audit AFTER INSERT ON invoices
FOR EACH ROW WHEN (current_setting('petstore.request', true) <> '')
EXECUTE FUNCTION record_audit('invoice.create');
COMMENT ON TRIGGER invoices_create_audit ON invoices IS 'Purchases through the service.';

CREATE TRIGGER invoices_update_audit AFTER UPDATE ON invoices
FOR EACH ROW EXECUTE FUNCTION record_audit('invoice.update');
COMMENT ON TRIGGER invoices_update_audit ON invoices IS 'Every change of status, also one made in SQL.';

CREATE TABLE invoice_details (
    id bigint GENERATED ALWAYS AS IDENTITY,
    invoice_id bigint NOT NULL,
    product_id bigint NOT NULL,
    name text NOT NULL,
    unit_price amount NOT NULL,
    quantity integer NOT NULL,
    line_total amount NOT NULL GENERATED ALWAYS AS (unit_price * quantity) STORED,
    credited integer NOT NULL DEFAULT 0,
    restocked integer NOT NULL DEFAULT 0,
    CONSTRAINT invoice_details_pkey PRIMARY KEY (id),
    CONSTRAINT invoice_details_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES invoices,
    CONSTRAINT invoice_details_product_id_fkey FOREIGN KEY (product_id) REFERENCES products,
    CONSTRAINT invoice_details_one_line_per_product UNIQUE (invoice_id, product_id),
    CONSTRAINT invoice_details_name_length CHECK (char_length(name) BETWEEN 1 AND 200),
    CONSTRAINT invoice_details_unit_price_range CHECK (unit_price <= 999999999),
    CONSTRAINT invoice_details_quantity_range CHECK (quantity BETWEEN 1 AND 1000000),
    CONSTRAINT invoice_details_credited_range CHECK (credited BETWEEN 0 AND quantity),
    CONSTRAINT invoice_details_restocked_range CHECK (restocked BETWEEN 0 AND quantity)
);
COMMENT ON TABLE invoice_details IS 'The lines of an invoice, one per product, with name and price as they were at the purchase.';
COMMENT ON COLUMN invoice_details.id IS 'For tools that want one column; all else names a line by invoice_id and product_id.';
COMMENT ON COLUMN invoice_details.invoice_id IS 'The invoice it is a line of.';
COMMENT ON COLUMN invoice_details.product_id IS 'What was bought, which may be off sale by now.';
COMMENT ON COLUMN invoice_details.name IS 'Name of the product at the moment of purchase.';
COMMENT ON COLUMN invoice_details.unit_price IS 'Price of one piece at the moment of purchase.';
COMMENT ON COLUMN invoice_details.quantity IS 'Pieces bought: at most 100 request lines of 10,000.';
COMMENT ON COLUMN invoice_details.line_total IS 'unit_price times quantity, computed by the database.';
COMMENT ON COLUMN invoice_details.credited
IS 'Pieces that credit notes took back from the amount; kept by a trigger of credit_note_lines.';
COMMENT ON COLUMN invoice_details.restocked IS 'Pieces that went back into stock; kept by the ledger of stock.';
COMMENT ON CONSTRAINT invoice_details_pkey ON invoice_details
IS 'One column that tells a line, for tools that need it; no query of the service does.';
COMMENT ON CONSTRAINT invoice_details_invoice_id_fkey ON invoice_details IS 'No line without an invoice.';
COMMENT ON CONSTRAINT invoice_details_product_id_fkey ON invoice_details IS 'Products that were sold stay as rows.';
COMMENT ON CONSTRAINT invoice_details_one_line_per_product ON invoice_details
IS 'Pieces of one product are summed; credit notes and movements refer to the line by these two.';
COMMENT ON CONSTRAINT invoice_details_name_length ON invoice_details IS 'As products_name_length.';
COMMENT ON CONSTRAINT invoice_details_unit_price_range ON invoice_details IS 'As products_price_range.';
COMMENT ON CONSTRAINT invoice_details_quantity_range ON invoice_details
IS '1 to 1,000,000 pieces: 100 lines of a request, of 10,000 each.';
COMMENT ON CONSTRAINT invoice_details_credited_range ON invoice_details
IS 'Ends crediting: never more than was bought, however many credit notes are made at once.';
COMMENT ON CONSTRAINT invoice_details_restocked_range ON invoice_details IS 'Never more goes back into stock than was bought.';

-- No index on product_id: products are never deleted, so nothing looks for their lines, and every purchase would pay for it.
GRANT SELECT, INSERT (invoice_id, product_id, name, unit_price, quantity) ON invoice_details TO petstore_app;
GRANT SELECT ON invoice_details TO petstore_report;

CREATE TRIGGER invoice_details_stay
BEFORE DELETE OR UPDATE OF invoice_id, product_id, name, unit_price, quantity ON invoice_details
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER invoice_details_stay ON invoice_details IS 'What was sold, and at which price, never changes.';

CREATE TRIGGER invoice_details_only_grow BEFORE UPDATE OF credited, restocked ON invoice_details
FOR EACH ROW WHEN (new.credited < old.credited OR new.restocked < old.restocked)
EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER invoice_details_only_grow ON invoice_details
IS 'The two counters never go back, so nothing is credited or restocked twice.';

CREATE FUNCTION check_invoice_total() RETURNS trigger
LANGUAGE plpgsql
AS $$
DECLARE
    checked bigint;
BEGIN
    IF TG_TABLE_NAME = 'invoices' THEN
        checked := new.id;
    ELSE
        checked := new.invoice_id;
    END IF;
    IF EXISTS (
        SELECT FROM m2_be_project.invoices AS i
        WHERE
            i.id = checked
            AND i.total <> (SELECT coalesce(sum(d.line_total), 0) FROM m2_be_project.invoice_details AS d WHERE d.invoice_id = i.id)
    ) THEN
        RAISE EXCEPTION 'the total of invoice % is not the sum of its lines', checked
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION check_invoice_total() IS 'For triggers: a total is the sum of its lines, when the transaction ends.';

CREATE CONSTRAINT TRIGGER invoices_total_is_sum AFTER INSERT ON invoices
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_invoice_total();
COMMENT ON TRIGGER invoices_total_is_sum ON invoices IS 'Looks at COMMIT, when the lines are there.';

CREATE CONSTRAINT TRIGGER invoice_details_total_is_sum AFTER INSERT ON invoice_details
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_invoice_total();
COMMENT ON TRIGGER invoice_details_total_is_sum ON invoice_details
IS 'Looks at COMMIT; a line added to an old invoice fails here.';

CREATE TABLE invoice_events (
    id bigint GENERATED ALWAYS AS IDENTITY,
    invoice_id bigint NOT NULL,
    from_status text NOT NULL,
    to_status text NOT NULL,
    actor_id bigint NOT NULL,
    restocked boolean NOT NULL,
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT invoice_events_pkey PRIMARY KEY (id),
    CONSTRAINT invoice_events_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES invoices,
    CONSTRAINT invoice_events_transition_fkey FOREIGN KEY (from_status, to_status) REFERENCES invoice_transitions,
    CONSTRAINT invoice_events_actor_id_fkey FOREIGN KEY (actor_id) REFERENCES users,
    CONSTRAINT invoice_events_once UNIQUE (invoice_id, from_status),
    CONSTRAINT invoice_events_reason_length CHECK (char_length(reason) BETWEEN 1 AND 500)
);
COMMENT ON TABLE invoice_events
IS 'Each change of an invoice''s status. Append-only; only a customer''s own words can be erased.';
COMMENT ON COLUMN invoice_events.id IS 'Order of the events.';
COMMENT ON COLUMN invoice_events.invoice_id IS 'The invoice whose status changed.';
COMMENT ON COLUMN invoice_events.from_status IS 'The state before.';
COMMENT ON COLUMN invoice_events.to_status IS 'The state after.';
COMMENT ON COLUMN invoice_events.actor_id IS 'The user who asked for the change.';
COMMENT ON COLUMN invoice_events.restocked IS 'Whether the goods went back into stock with it.';
COMMENT ON COLUMN invoice_events.reason IS 'In the words of who asked; NULL when none was given.';
COMMENT ON COLUMN invoice_events.created_at IS 'Start of the transaction that changed the status.';
COMMENT ON CONSTRAINT invoice_events_pkey ON invoice_events IS 'Events are shown in the order of it.';
COMMENT ON CONSTRAINT invoice_events_invoice_id_fkey ON invoice_events IS 'No event without an invoice.';
COMMENT ON CONSTRAINT invoice_events_transition_fkey ON invoice_events
IS 'Only steps that invoice_transitions allows; one that has been taken cannot be removed there.';
COMMENT ON CONSTRAINT invoice_events_actor_id_fkey ON invoice_events
IS 'Somebody asked for it: a change made in SQL has no event.';
COMMENT ON CONSTRAINT invoice_events_once ON invoice_events
IS 'No state is left twice (the transitions have no circle), so nothing can be put back into stock twice.';
COMMENT ON CONSTRAINT invoice_events_reason_length ON invoice_events
IS '1 to 500 characters; no reason is NULL, never an empty text.';

GRANT
SELECT, INSERT (invoice_id, from_status, to_status, actor_id, restocked, reason), UPDATE (reason)
ON invoice_events TO petstore_app;

GRANT SELECT ON invoice_events TO petstore_report;

CREATE TRIGGER invoice_events_stay
BEFORE DELETE OR UPDATE OF id, invoice_id, from_status, to_status, actor_id, restocked, created_at ON invoice_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER invoice_events_stay ON invoice_events IS 'What happened to an invoice stays as it was written.';

CREATE TRIGGER invoice_events_words_only_erased BEFORE UPDATE OF reason ON invoice_events
FOR EACH ROW WHEN (new.reason IS NOT NULL)
EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER invoice_events_words_only_erased ON invoice_events IS 'A reason can be set to NULL, never to other words.';


-- ── numbers and credit notes ─────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE number_series (
    series text NOT NULL,
    year integer NOT NULL,
    last integer NOT NULL,
    CONSTRAINT number_series_pkey PRIMARY KEY (series, year),
    CONSTRAINT number_series_known CHECK (series IN ('invoice', 'credit_note')),
    CONSTRAINT number_series_year_range CHECK (year BETWEEN 2000 AND 9999),
    CONSTRAINT number_series_positive CHECK (last > 0)
);
COMMENT ON TABLE number_series
IS 'The last number given in each series and UTC year. Its row is locked until the transaction that took a number ends: no gaps.';
COMMENT ON COLUMN number_series.series IS 'invoice, or credit_note, whose numbers begin with a C.';
COMMENT ON COLUMN number_series.year IS 'UTC year of the transactions that took the numbers.';
COMMENT ON COLUMN number_series.last IS 'The number that was given last; the next one is one more.';
COMMENT ON CONSTRAINT number_series_pkey ON number_series
IS 'Each series begins anew with the year; who takes a number locks this row.';
COMMENT ON CONSTRAINT number_series_known ON number_series IS 'A further series needs a prefix of its own in next_number().';
COMMENT ON CONSTRAINT number_series_year_range ON number_series IS 'Four digits, as the form of a number has them.';
COMMENT ON CONSTRAINT number_series_positive ON number_series IS 'Numbers count from 1; a year without any has no row.';
GRANT SELECT ON number_series TO petstore_report;

CREATE FUNCTION next_number(wanted text) RETURNS text
LANGUAGE sql VOLATILE
AS $$
    INSERT INTO number_series AS s (series, year, last)
    VALUES (wanted, extract(YEAR FROM now() AT TIME ZONE 'UTC')::integer, 1)
    ON CONFLICT (series, year) DO UPDATE SET last = s.last + 1
    RETURNING CASE s.series WHEN 'credit_note' THEN 'C' ELSE '' END
        || s.year || '-' || lpad(s.last::text, greatest(6, length(s.last::text)), '0')
$$;
COMMENT ON FUNCTION next_number(text)
IS 'The next number of a series, invoice or credit_note, in this UTC year; a transaction that fails gives it back.';

CREATE FUNCTION enter_status() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = m2_be_project, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM invoice_transitions AS t WHERE t.from_status = old.status AND t.to_status = new.status) THEN
        RAISE EXCEPTION 'an invoice that is % cannot become %', old.status, new.status
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
    END IF;
    IF old.number IS NULL AND new.status <> 'cancelled' THEN
        new.number := next_number('invoice');
    END IF;
    RETURN new;
END
$$;
COMMENT ON FUNCTION enter_status()
IS 'For the trigger of invoices: allows what invoice_transitions has, and gives the number on becoming paid.';

CREATE TRIGGER invoices_enter_status BEFORE UPDATE OF status ON invoices
FOR EACH ROW WHEN (new.status <> old.status)
EXECUTE FUNCTION enter_status();
COMMENT ON TRIGGER invoices_enter_status ON invoices
IS 'Only steps of invoice_transitions; the first one that is no cancelling takes a number.';

CREATE TABLE credit_notes (
    id bigint GENERATED ALWAYS AS IDENTITY,
    invoice_id bigint NOT NULL,
    number text NOT NULL,
    actor_id bigint NOT NULL,
    reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT credit_notes_pkey PRIMARY KEY (id),
    CONSTRAINT credit_notes_of_invoice_key UNIQUE (invoice_id, id),
    CONSTRAINT credit_notes_number_key UNIQUE (number),
    CONSTRAINT credit_notes_number_form CHECK (number ~ '^C[0-9]{4}-[0-9]{6,}$'),
    CONSTRAINT credit_notes_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES invoices,
    CONSTRAINT credit_notes_actor_id_fkey FOREIGN KEY (actor_id) REFERENCES users,
    CONSTRAINT credit_notes_reason_length CHECK (char_length(reason) BETWEEN 1 AND 500)
);
COMMENT ON TABLE credit_notes
IS 'What was taken back of an invoice, in part or whole; the invoice itself never changes an amount.';
COMMENT ON COLUMN credit_notes.id IS 'What its lines refer to; has gaps, unlike its number.';
COMMENT ON COLUMN credit_notes.invoice_id IS 'The invoice that it takes back from.';
COMMENT ON COLUMN credit_notes.number IS 'The next of its UTC year, without gaps (number_series). C2026-000001';
COMMENT ON COLUMN credit_notes.actor_id IS 'The user who made it.';
COMMENT ON COLUMN credit_notes.reason IS 'In the words of who made it; NULL when none was given.';
COMMENT ON COLUMN credit_notes.created_at IS 'Start of the transaction that made it, whose UTC year its number has.';
COMMENT ON CONSTRAINT credit_notes_pkey ON credit_notes IS 'Credit notes of an invoice are shown in the order of it.';
COMMENT ON CONSTRAINT credit_notes_of_invoice_key ON credit_notes
IS 'For credit_note_lines, which refer to both; also finds the credit notes of an invoice.';
COMMENT ON CONSTRAINT credit_notes_number_key ON credit_notes IS 'No number is given twice.';
COMMENT ON CONSTRAINT credit_notes_number_form ON credit_notes IS 'C, year, hyphen, at least six digits: C2026-000001.';
COMMENT ON CONSTRAINT credit_notes_invoice_id_fkey ON credit_notes IS 'No credit note without an invoice.';
COMMENT ON CONSTRAINT credit_notes_actor_id_fkey ON credit_notes IS 'Somebody made it, and stays as a row even when erased.';
COMMENT ON CONSTRAINT credit_notes_reason_length ON credit_notes
IS '1 to 500 characters; no reason is NULL, never an empty text.';
GRANT SELECT, INSERT (invoice_id, actor_id, reason) ON credit_notes TO petstore_app;
GRANT SELECT ON credit_notes TO petstore_report;

CREATE TRIGGER credit_notes_stay BEFORE UPDATE OR DELETE ON credit_notes
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER credit_notes_stay ON credit_notes IS 'The books keep every credit note as the customer got it.';

CREATE TRIGGER credit_notes_create_audit AFTER INSERT ON credit_notes
FOR EACH ROW EXECUTE FUNCTION record_audit('credit_note.create');
COMMENT ON TRIGGER credit_notes_create_audit ON credit_notes IS 'Every credit note, also one made in SQL.';

CREATE FUNCTION number_credit_note() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = m2_be_project, pg_temp
AS $$
BEGIN
    new.number := next_number('credit_note');
    RETURN new;
END
$$;
COMMENT ON FUNCTION number_credit_note() IS 'For the trigger of credit_notes: gives the number.';

CREATE TRIGGER credit_notes_number BEFORE INSERT ON credit_notes
FOR EACH ROW WHEN (new.number IS NULL)
EXECUTE FUNCTION number_credit_note();
COMMENT ON TRIGGER credit_notes_number ON credit_notes
IS 'Takes the next number; one that the owner gives, in an import, is kept.';

CREATE TABLE credit_note_lines (
    credit_note_id bigint NOT NULL,
    invoice_id bigint NOT NULL,
    product_id bigint NOT NULL,
    quantity integer NOT NULL,
    restock boolean NOT NULL,
    CONSTRAINT credit_note_lines_pkey PRIMARY KEY (credit_note_id, product_id, restock),
    CONSTRAINT credit_note_lines_credit_note_fkey
    FOREIGN KEY (invoice_id, credit_note_id) REFERENCES credit_notes (invoice_id, id),
    CONSTRAINT credit_note_lines_invoice_detail_fkey
    FOREIGN KEY (invoice_id, product_id) REFERENCES invoice_details (invoice_id, product_id),
    CONSTRAINT credit_note_lines_quantity_positive CHECK (quantity > 0)
);
COMMENT ON TABLE credit_note_lines
IS 'Pieces of a line of the invoice that a credit note takes back, at the unit price of that line.';
COMMENT ON COLUMN credit_note_lines.credit_note_id IS 'The credit note it is a line of.';
COMMENT ON COLUMN credit_note_lines.invoice_id
IS 'That of the credit note, kept here too so that keys can tie the line to the same invoice.';
COMMENT ON COLUMN credit_note_lines.product_id IS 'What is taken back.';
COMMENT ON COLUMN credit_note_lines.quantity IS 'Pieces taken back; their amount is this times the unit price on the invoice.';
COMMENT ON COLUMN credit_note_lines.restock IS 'Whether these pieces went back into stock.';
COMMENT ON CONSTRAINT credit_note_lines_pkey ON credit_note_lines
IS 'Of one product, two lines at most: what went back into stock, and what did not.';
COMMENT ON CONSTRAINT credit_note_lines_credit_note_fkey ON credit_note_lines IS 'Credit note and line are of the same invoice.';
COMMENT ON CONSTRAINT credit_note_lines_invoice_detail_fkey ON credit_note_lines
IS 'Only what was bought with this invoice can be credited.';
COMMENT ON CONSTRAINT credit_note_lines_quantity_positive ON credit_note_lines
IS 'At least one piece; the upper end is invoice_details_credited_range.';
GRANT SELECT, INSERT ON credit_note_lines TO petstore_app;
GRANT SELECT ON credit_note_lines TO petstore_report;

CREATE TRIGGER credit_note_lines_stay BEFORE UPDATE OR DELETE ON credit_note_lines
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER credit_note_lines_stay ON credit_note_lines IS 'What was credited stays as it was written.';

CREATE FUNCTION check_credit_note_lines() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM m2_be_project.credit_note_lines AS l WHERE l.credit_note_id = new.id) THEN
        RAISE EXCEPTION 'credit note % has no lines', new.number
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION check_credit_note_lines()
IS 'For the trigger of credit_notes: there is something in it, when the transaction ends.';

CREATE CONSTRAINT TRIGGER credit_notes_have_lines AFTER INSERT ON credit_notes
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_credit_note_lines();
COMMENT ON TRIGGER credit_notes_have_lines ON credit_notes IS 'Looks at COMMIT, when the lines are there.';

CREATE FUNCTION count_credited() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = m2_be_project, pg_temp
AS $$
BEGIN
    UPDATE invoice_details AS d
    SET credited = d.credited + a.quantity
    FROM (SELECT invoice_id, product_id, sum(quantity) AS quantity FROM added GROUP BY invoice_id, product_id) AS a
    WHERE d.invoice_id = a.invoice_id AND d.product_id = a.product_id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION count_credited()
IS 'Counts credited pieces on the line of the invoice, where invoice_details_credited_range ends them.';

CREATE TRIGGER credit_note_lines_count AFTER INSERT ON credit_note_lines
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION count_credited();
COMMENT ON TRIGGER credit_note_lines_count ON credit_note_lines
IS 'Adds to invoice_details.credited, and so locks the line against a second credit note at once.';


-- ── the ledger of stock ──────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE stock_movements (
    id bigint GENERATED ALWAYS AS IDENTITY,
    product_id bigint NOT NULL,
    kind text NOT NULL,
    delta integer NOT NULL,
    stock integer NOT NULL,
    invoice_id bigint,
    actor_id bigint,
    reason text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT stock_movements_pkey PRIMARY KEY (id),
    CONSTRAINT stock_movements_product_id_fkey FOREIGN KEY (product_id) REFERENCES products,
    CONSTRAINT stock_movements_invoice_detail_fkey
    FOREIGN KEY (invoice_id, product_id) REFERENCES invoice_details (invoice_id, product_id),
    CONSTRAINT stock_movements_actor_id_fkey FOREIGN KEY (actor_id) REFERENCES users,
    CONSTRAINT stock_movements_sign CHECK (
        CASE kind
            WHEN 'initial' THEN delta = stock
            WHEN 'sale' THEN delta < 0
            WHEN 'cancel_restock' THEN delta > 0
            WHEN 'return_restock' THEN delta > 0
            WHEN 'adjust' THEN delta <> 0
            ELSE false
        END
    ),
    CONSTRAINT stock_movements_invoice_of_kind CHECK ((invoice_id IS NULL) = (kind IN ('initial', 'adjust'))),
    CONSTRAINT stock_movements_reason_length CHECK (char_length(reason) BETWEEN 1 AND 500)
);
COMMENT ON TABLE stock_movements
IS 'The ledger: every change of every stock. Append-only; written by a trigger of products, whoever changes them.';
COMMENT ON COLUMN stock_movements.id IS 'Order of the movements of one product: each was written under the lock of its row.';
COMMENT ON COLUMN stock_movements.product_id IS 'Whose stock it was.';
COMMENT ON COLUMN stock_movements.kind
IS 'initial, sale, cancel_restock, return_restock (by a credit note), adjust (by an admin, or in SQL).';
COMMENT ON COLUMN stock_movements.delta IS 'Pieces that came (positive) or went (negative).';
COMMENT ON COLUMN stock_movements.stock IS 'Pieces there were after it.';
COMMENT ON COLUMN stock_movements.invoice_id IS 'The invoice that sold them or gave them back; NULL for initial and adjust.';
COMMENT ON COLUMN stock_movements.actor_id IS 'The user behind it; NULL for a change made in SQL.';
COMMENT ON COLUMN stock_movements.reason IS 'In the words of who did it; of a change made in SQL, which role made it.';
COMMENT ON COLUMN stock_movements.created_at
IS 'The moment itself, not the start of the transaction, so that times follow the ids of a product.';
COMMENT ON CONSTRAINT stock_movements_pkey ON stock_movements IS 'The ledger is read in the order of it.';
COMMENT ON CONSTRAINT stock_movements_product_id_fkey ON stock_movements IS 'Products keep their rows, and so their ledger.';
COMMENT ON CONSTRAINT stock_movements_invoice_detail_fkey ON stock_movements
IS 'A sale or a return is of a line of that very invoice.';
COMMENT ON CONSTRAINT stock_movements_actor_id_fkey ON stock_movements
IS 'Who changed the stock stays as a row even when erased.';
COMMENT ON CONSTRAINT stock_movements_sign ON stock_movements
IS 'Sales take away, returns bring back, and a product begins with what it has.';
COMMENT ON CONSTRAINT stock_movements_invoice_of_kind ON stock_movements
IS 'Sales and returns name their invoice, and nothing else names one.';
COMMENT ON CONSTRAINT stock_movements_reason_length ON stock_movements
IS '1 to 500 characters; no reason is NULL, never an empty text.';

CREATE INDEX stock_movements_of_product ON stock_movements (product_id, id DESC);
COMMENT ON INDEX stock_movements_of_product IS 'The ledger of one product, newest first.';

GRANT SELECT ON stock_movements TO petstore_app, petstore_report;

CREATE TRIGGER stock_movements_stay BEFORE UPDATE OR DELETE ON stock_movements
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER stock_movements_stay ON stock_movements IS 'The ledger is only ever added to.';

CREATE FUNCTION stock_cause(kind text, invoice_id bigint, actor_id bigint, reason text) RETURNS text
LANGUAGE sql VOLATILE
AS $$
    SELECT set_config(
        'petstore.stock_cause',
        jsonb_build_object('kind', kind, 'invoice_id', invoice_id, 'actor_id', actor_id, 'reason', reason)::text,
        true
    )
$$;
COMMENT ON FUNCTION stock_cause(text, bigint, bigint, text)
IS 'Tells the ledger why the statement that calls it changes stock; good for this one statement.';

CREATE FUNCTION record_stock() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = m2_be_project, pg_temp
AS $$
DECLARE
    cause jsonb := nullif(current_setting('petstore.stock_cause', true), '');
    cause_kind text := coalesce(cause ->> 'kind', CASE TG_OP WHEN 'INSERT' THEN 'initial' ELSE 'adjust' END);
    cause_invoice bigint := cause ->> 'invoice_id';
    cause_actor bigint := cause ->> 'actor_id';
    cause_reason text := CASE WHEN cause IS NULL THEN 'in SQL, as ' || session_user ELSE cause ->> 'reason' END;
BEGIN
    PERFORM set_config('petstore.stock_cause', '', true);
    IF TG_OP = 'INSERT' THEN
        INSERT INTO stock_movements (product_id, kind, delta, stock, invoice_id, actor_id, reason)
        SELECT id, cause_kind, stock, stock, cause_invoice, cause_actor, cause_reason FROM after_rows
        ORDER BY id;
        RETURN NULL;
    END IF;
    INSERT INTO stock_movements (product_id, kind, delta, stock, invoice_id, actor_id, reason)
    SELECT a.id, cause_kind, a.stock - b.stock, a.stock, cause_invoice, cause_actor, cause_reason
    FROM after_rows AS a
    INNER JOIN before_rows AS b ON a.id = b.id
    WHERE a.stock <> b.stock
    ORDER BY a.id;
    IF cause_kind IN ('cancel_restock', 'return_restock') THEN
        UPDATE invoice_details AS d
        SET restocked = d.restocked + a.stock - b.stock
        FROM after_rows AS a
        INNER JOIN before_rows AS b ON a.id = b.id
        WHERE d.invoice_id = cause_invoice AND d.product_id = a.id;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION record_stock()
IS 'Writes the ledger: a row for every stock that a statement changed, with the cause it gave to stock_cause().';

-- Nobody hangs these on a table of their own, to write with the owner's rights.
REVOKE EXECUTE ON FUNCTION record_stock(), count_credited(), enter_status(), number_credit_note(), next_number(text) FROM PUBLIC;

CREATE TRIGGER products_insert_record_stock AFTER INSERT ON products
REFERENCING NEW TABLE AS after_rows
FOR EACH STATEMENT EXECUTE FUNCTION record_stock();
COMMENT ON TRIGGER products_insert_record_stock ON products IS 'The first movement of every product, however it is loaded.';

CREATE TRIGGER products_update_record_stock AFTER UPDATE ON products
REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows
FOR EACH STATEMENT EXECUTE FUNCTION record_stock();
COMMENT ON TRIGGER products_update_record_stock ON products IS 'A movement for every stock that changes, whoever changes it.';


-- ── answers kept for retries ─────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE idempotency_keys (
    user_id bigint NOT NULL,
    route text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL,
    status integer,
    location text,
    body bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (user_id, route, key),
    CONSTRAINT idempotency_keys_user_id_fkey FOREIGN KEY (user_id) REFERENCES users,
    CONSTRAINT idempotency_keys_key_form CHECK (key ~ '^[ -~]{1,255}$'),
    CONSTRAINT idempotency_keys_fingerprint_sha256 CHECK (octet_length(fingerprint) = 32),
    CONSTRAINT idempotency_keys_status_range CHECK (status BETWEEN 200 AND 499),
    CONSTRAINT idempotency_keys_whole CHECK ((status IS NULL) = (body IS NULL))
);
COMMENT ON TABLE idempotency_keys
IS 'The answers of writes that came with an Idempotency-Key, for 24 hours. Written in the write''s own transaction.';
COMMENT ON COLUMN idempotency_keys.user_id IS 'Whose key it is: two users may choose the same.';
COMMENT ON COLUMN idempotency_keys.route IS 'Method and route, such as POST /purchase_product.';
COMMENT ON COLUMN idempotency_keys.key IS 'As the client sent it; unique to one user and route.';
COMMENT ON COLUMN idempotency_keys.fingerprint
IS 'SHA-256 of method, route, parameters and body: the same key with another request is refused.';
COMMENT ON COLUMN idempotency_keys.status IS 'HTTP status of the answer; NULL only while its transaction runs.';
COMMENT ON COLUMN idempotency_keys.location IS 'Location header of the answer; NULL for none.';
COMMENT ON COLUMN idempotency_keys.body IS 'The bytes of the answer.';
COMMENT ON COLUMN idempotency_keys.created_at IS 'When the key was claimed; it can be claimed anew after 24 hours.';
COMMENT ON CONSTRAINT idempotency_keys_pkey ON idempotency_keys
IS 'One answer to a key of a user and route: of two requests with one key, one is done.';
COMMENT ON CONSTRAINT idempotency_keys_user_id_fkey ON idempotency_keys IS 'Keys belong to accounts; an erased one has none.';
COMMENT ON CONSTRAINT idempotency_keys_key_form ON idempotency_keys IS '1 to 255 printable ASCII characters.';
COMMENT ON CONSTRAINT idempotency_keys_fingerprint_sha256 ON idempotency_keys
IS 'SHA-256 has 32 bytes: the request itself, which may be personal, is not kept.';
COMMENT ON CONSTRAINT idempotency_keys_status_range ON idempotency_keys
IS 'Done or refused; a failure of the server (5xx) is never kept, so that the next try runs.';
COMMENT ON CONSTRAINT idempotency_keys_whole ON idempotency_keys IS 'An answer has both status and body, or there is none yet.';

CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
COMMENT ON INDEX idempotency_keys_age IS 'What is older than 24 hours, to be removed.';

GRANT
SELECT, INSERT (user_id, route, key, fingerprint), UPDATE (fingerprint, status, location, body, created_at), DELETE
ON idempotency_keys TO petstore_app;

COMMIT;
