-- The complete Petstore schema, for PostgreSQL 14 and newer. Run it once, in an empty database, after roles.sql:
--
--   psql -d pet_ecommerce -U petstore_owner -v ON_ERROR_STOP=1 -f sql/schema.sql
--
-- The currency is set here and cannot be changed later. The default is US dollars with two digits after the point. Another ISO 4217
-- currency and its number of digits are given as session settings:
--
--   PGOPTIONS="-c petstore.currency=JPY -c petstore.minor_digits=0" psql ... -f sql/schema.sql
--
-- Everything runs in one transaction. A superuser may run it too: the tables still belong to petstore_owner.
--
-- Contents. To find an object, search for its line: CREATE TABLE users, CREATE FUNCTION next_number. Its comments, indexes, grants and
-- triggers follow it.
--
--   shop and schema version   schema_version, shop, amount (a domain), is_line(), refuse_change()
--   accounts                  users, sessions, refresh_tokens
--   audit log                 audit_log, audit_addresses, begin_request(), record_audit()
--   catalogue                 products
--   invoices                  invoice_statuses, invoice_transitions, invoices, invoice_details, check_invoice_total(), invoice_events
--   numbers and credit notes  number_series, next_number(), enter_status(), credit_notes, number_credit_note(), credit_note_lines,
--                             check_credit_note_lines(), count_credited()
--   stock ledger              stock_movements, stock_cause(), record_stock()
--   idempotency keys          idempotency_keys

BEGIN;

-- Emails are unique without regard to case in every alphabet, so lower() must work beyond ASCII.
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


-- ── shop and schema version ────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE schema_version (
    version integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    name text,
    safe boolean NOT NULL DEFAULT false,
    sha256 text,
    applied_by text DEFAULT session_user,
    seconds numeric,
    CONSTRAINT schema_version_pkey PRIMARY KEY (version),
    CONSTRAINT schema_version_positive CHECK (version > 0),
    CONSTRAINT schema_version_sha256_form CHECK (sha256 ~ '^[0-9a-f]{64}$')
);
COMMENT ON TABLE schema_version
IS 'The migrations (sql/migrations) that this database has, one row each. The highest version is that of the schema.';
COMMENT ON COLUMN schema_version.version IS 'Version number, with which the name of the file begins.';
COMMENT ON COLUMN schema_version.applied_at IS 'When this version was applied, or the database was made.';
COMMENT ON COLUMN schema_version.name IS 'The rest of the file''s name; NULL for the first version, which no migration made.';
COMMENT ON COLUMN schema_version.safe
IS 'true: a release that does not know this version goes on serving. false: it refuses the database.';
COMMENT ON COLUMN schema_version.sha256
IS 'SHA-256 of the file that petstore migrate ran; NULL if psql ran it, or schema.sql contained it from the start.';
COMMENT ON COLUMN schema_version.applied_by IS 'The role that logged in to apply it; NULL if that is not known.';
COMMENT ON COLUMN schema_version.seconds IS 'How long the file ran; NULL unless petstore migrate ran it.';
COMMENT ON CONSTRAINT schema_version_sha256_form ON schema_version IS 'As sha256sum prints it.';
GRANT SELECT ON schema_version TO petstore_app, petstore_report;

-- Every migration that is contained in this file.
INSERT INTO schema_version (version, name, safe)
VALUES
(6, 'record_migrations', true),
(7, 'rewrite_email_check', true),
(8, 'validate_email_check', true),
(9, 'set_role_timeouts', true),
(10, 'date_erasure', true),
(11, 'add_session_uuid', true),
(12, 'fill_session_uuid', true),
(13, 'shorten_refusals', false),
(14, 'check_names', true),
(15, 'check_texts', true);

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
COMMENT ON TABLE shop IS 'Facts about the shop that are fixed when the schema is created. Always one row.';
COMMENT ON COLUMN shop.id IS 'Always 1, so that there is only one row.';
COMMENT ON COLUMN shop.currency IS 'ISO 4217 code of the currency of every amount in this database.';
COMMENT ON COLUMN shop.minor_digits IS 'Digits after the decimal point in this currency: 2 for USD, 0 for JPY, 3 for KWD.';
COMMENT ON COLUMN shop.instance_id
IS 'Identifies this database. Cache keys contain it, so that databases that share a Redis do not share entries.';
COMMENT ON CONSTRAINT shop_currency_iso_4217 ON shop IS 'The form only. The service checks that ISO 4217 has the code.';
COMMENT ON CONSTRAINT shop_minor_digits_range ON shop IS 'ISO 4217 has currencies without minor digits and with up to four.';
GRANT SELECT ON shop TO petstore_app, petstore_report;

INSERT INTO shop (currency, minor_digits)
SELECT
    coalesce(given.currency, 'USD') AS currency,
    -- A currency without its digits gives NULL here, which the column rejects.
    CASE WHEN given.currency IS NULL THEN 2 ELSE given.minor_digits END AS minor_digits
FROM (
    SELECT
        nullif(current_setting('petstore.currency', true), '') AS currency,
        nullif(current_setting('petstore.minor_digits', true), '')::integer AS minor_digits
) AS given;

-- A CHECK cannot read the table shop, so the number of digits is written into the domain when it is created.
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
COMMENT ON DOMAIN amount IS 'Money in the currency of the shop: exact, not negative, at most the minor digits of the currency.';
COMMENT ON CONSTRAINT amount_range ON DOMAIN amount
IS 'Also rejects NaN, which sorts above every number. The upper bound is far above any invoice.';
COMMENT ON CONSTRAINT amount_minor_digits ON DOMAIN amount IS 'Fractions of the smallest coin are rejected, not rounded.';

CREATE FUNCTION is_line(words text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
-- Not LANGUAGE sql: that is put into the plan of each statement anew, which costs a sale ten times as much.
BEGIN
    RETURN words !~ '[\u0001-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]'
        AND words ~ (
            '[^\u0001-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f'
            '\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001343f\U00013441\U00013442'
            '\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a\U000e0000-\U000e0fff]'
        );
END
$$;
COMMENT ON FUNCTION is_line(text)
IS 'Whether a text can be read on one line: no control characters, none that turn the direction of writing, and at least one '
'that can be seen: not blanks, joiners, fillers, variation selectors or tags alone. The service has the same rule.';

CREATE FUNCTION refuse_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'what is written in % stays as it is', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation', HINT = 'Correct it by a new row: an UPDATE of products.stock, a credit note.';
END
$$;
COMMENT ON FUNCTION refuse_change()
IS 'Trigger function: rejects the change. Keeps the books append-only, also for the owner, who can only TRUNCATE them.';


-- ── accounts ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

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
    CONSTRAINT users_email_form CHECK (char_length(email) >= 3 AND char_length(email) <= 254 AND email LIKE '_%@_%'),
    -- Verifying a password takes m KiB of memory and t passes, so both are limited.
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
IS 'Everyone who can log in, or once could. Rows are never deleted, because invoices refer to them; erasing an account '
'removes its personal data.';
COMMENT ON COLUMN users.id IS 'Never reused. The sub claim of access tokens.';
COMMENT ON COLUMN users.email IS 'As typed; unique without regard to case. NULL when erased.';
COMMENT ON COLUMN users.password IS 'Argon2id hash as a PHC string, never the password. NULL when erased.';
COMMENT ON COLUMN users.role IS 'user: a customer. admin: also manages the catalogue, accounts and invoices.';
COMMENT ON COLUMN users.active
IS 'false: disabled by an admin, or erased. The account cannot log in, and its tokens are rejected.';
COMMENT ON COLUMN users.token_version IS 'Increased to end all sessions of the account: on a new password, disabling or erasure.';
COMMENT ON COLUMN users.created_at IS 'When the account was registered.';
COMMENT ON COLUMN users.erased_at
IS 'When the owner deleted the account; NULL if it was not deleted. Nothing that the account did is dated later.';
COMMENT ON CONSTRAINT users_email_form ON users
IS 'A minimal check; 254 characters is the limit of RFC 5321. The service checks the rest.';
COMMENT ON CONSTRAINT users_password_is_a_hash ON users
IS 'Argon2id as a PHC string with a bounded cost. Rejects plain-text passwords, and hashes that take minutes to verify.';
COMMENT ON CONSTRAINT users_whole_or_erased ON users
IS 'An account has an email and a password, or it is erased: nothing personal left, not an admin, not active.';

CREATE UNIQUE INDEX users_email_key ON users (lower(normalize(email)));
COMMENT ON INDEX users_email_key
IS 'One account per email address, whatever its case or Unicode composition. Login looks accounts up by it.';

CREATE INDEX users_active_admins ON users (id) WHERE role = 'admin' AND active;
COMMENT ON INDEX users_active_admins IS 'Finds the other active admins without scanning all customers.';

GRANT
SELECT, INSERT (email, password, role), UPDATE (email, password, role, active, token_version, erased_at)
ON users TO petstore_app;

-- By column: reports must not read password and token_version.
GRANT SELECT (id, email, role, active, created_at, erased_at) ON users TO petstore_report;

CREATE TRIGGER users_stay BEFORE DELETE ON users
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER users_stay ON users IS 'Accounts are erased by an UPDATE, never deleted, because the books refer to them.';

CREATE TRIGGER users_ended_stays_ended BEFORE UPDATE ON users
FOR EACH ROW WHEN (old.erased_at IS NOT NULL OR new.token_version < old.token_version)
EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER users_ended_stays_ended ON users
IS 'An erased account cannot be restored, and token_version cannot decrease, which would make revoked tokens valid again.';

CREATE TABLE sessions (
    id bigint GENERATED ALWAYS AS IDENTITY,
    user_id bigint NOT NULL,
    token_version integer NOT NULL,
    address inet,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    end_reason text,
    session_uuid uuid DEFAULT gen_random_uuid(),
    CONSTRAINT sessions_pkey PRIMARY KEY (id),
    CONSTRAINT sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users,
    CONSTRAINT sessions_ends_later CHECK (expires_at > created_at),
    CONSTRAINT sessions_end_reason_known CHECK (end_reason IN ('logout', 'reuse')),
    CONSTRAINT sessions_ended_whole CHECK ((ended_at IS NULL) = (end_reason IS NULL))
);
COMMENT ON TABLE sessions
IS 'Login sessions. A session is live if it has not ended or expired, its user is active and its token_version is still '
'that of the user.';
COMMENT ON COLUMN sessions.id IS 'The sid claim of access tokens.';
COMMENT ON COLUMN sessions.user_id IS 'The account that logged in.';
COMMENT ON COLUMN sessions.token_version IS 'token_version of the user at login.';
COMMENT ON COLUMN sessions.address IS 'Client address at login; NULL if unknown.';
COMMENT ON COLUMN sessions.created_at IS 'Time of the login. No refresh extends the session beyond 365 days after it.';
COMMENT ON COLUMN sessions.expires_at
IS 'When its refresh token expires. Each refresh extends it, up to 365 days after the login.';
COMMENT ON COLUMN sessions.ended_at IS 'When the session was ended early; NULL while it is live, and if it simply expired.';
COMMENT ON COLUMN sessions.end_reason IS 'logout; or reuse: a refresh token was used twice, so it may be stolen.';
COMMENT ON COLUMN sessions.session_uuid
IS 'Random; the session_uuid claim of access tokens. A database that lost its newest rows gives an id again, but never this.';
COMMENT ON CONSTRAINT sessions_ended_whole ON sessions IS 'An ended session has a reason; any other has none.';

CREATE INDEX sessions_of_user ON sessions (user_id);
COMMENT ON INDEX sessions_of_user IS 'Sessions of one account.';

CREATE INDEX sessions_age ON sessions (expires_at);
COMMENT ON INDEX sessions_age IS 'For the purge of sessions that expired long ago.';

GRANT
SELECT, INSERT (user_id, token_version, address, expires_at), UPDATE (expires_at, ended_at, end_reason), DELETE
ON sessions TO petstore_app;

CREATE TRIGGER sessions_ended_stays_ended BEFORE UPDATE OF ended_at, end_reason ON sessions
FOR EACH ROW WHEN (old.ended_at IS NOT NULL)
EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER sessions_ended_stays_ended ON sessions IS 'A session that was ended cannot be revived.';

CREATE TABLE refresh_tokens (
    token_hash bytea NOT NULL,
    session_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz,
    CONSTRAINT refresh_tokens_pkey PRIMARY KEY (token_hash),
    CONSTRAINT refresh_tokens_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions ON DELETE CASCADE,
    CONSTRAINT refresh_tokens_hash_sha256 CHECK (octet_length(token_hash) = 32)
);
COMMENT ON TABLE refresh_tokens IS 'Refresh tokens of sessions, used and unused. Only the newest token of a session is unused.';
COMMENT ON COLUMN refresh_tokens.token_hash IS 'SHA-256 of the token, which has 256 random bits. The token itself is not stored.';
COMMENT ON COLUMN refresh_tokens.session_id IS 'The session that the token extends.';
COMMENT ON COLUMN refresh_tokens.created_at IS 'When the token was issued.';
COMMENT ON COLUMN refresh_tokens.used_at IS 'When it was exchanged for the next token; NULL for the newest.';
COMMENT ON CONSTRAINT refresh_tokens_hash_sha256 ON refresh_tokens
IS 'SHA-256 has 32 bytes: a token in plain text does not get in by mistake.';

CREATE INDEX refresh_tokens_of_session ON refresh_tokens (session_id);
COMMENT ON INDEX refresh_tokens_of_session IS 'Finds the tokens to delete with their session (ON DELETE CASCADE).';

CREATE INDEX refresh_tokens_used ON refresh_tokens (used_at) WHERE used_at IS NOT NULL;
COMMENT ON INDEX refresh_tokens_used IS 'For the purge of tokens that were used long ago.';

GRANT SELECT, INSERT (token_hash, session_id), UPDATE (used_at), DELETE ON refresh_tokens TO petstore_app;


-- ── audit log ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

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
IS 'Who changed what and when: ids and column names, never values. Append-only; written by triggers, whoever changes a row.';
COMMENT ON COLUMN audit_log.id IS 'Increasing. For overlapping transactions, its order can differ from that of created_at.';
COMMENT ON COLUMN audit_log.created_at IS 'Start of the transaction that made the change; for an erasure, users.erased_at.';
COMMENT ON COLUMN audit_log.actor_id IS 'The user who made the change; NULL for a change made in SQL or at the command line.';
COMMENT ON COLUMN audit_log.action IS 'What was changed, and how: user.update, product.create, session.end.';
COMMENT ON COLUMN audit_log.subject_id IS 'Id of the row that was changed.';
COMMENT ON COLUMN audit_log.fields IS 'Names of the columns that an update changed.';
COMMENT ON CONSTRAINT audit_log_action_form ON audit_log
IS 'Subject, dot, verb: user.update. The form has no room for personal values.';

CREATE INDEX audit_log_age ON audit_log (created_at, id);
COMMENT ON INDEX audit_log_age IS 'The log by time.';

CREATE INDEX audit_log_of_actor ON audit_log (actor_id, created_at, id);
COMMENT ON INDEX audit_log_of_actor IS 'Actions of one user by time.';

CREATE INDEX audit_log_of_action ON audit_log (action, created_at, id);
COMMENT ON INDEX audit_log_of_action IS 'Entries with one action by time, however rare they are.';

CREATE INDEX audit_log_of_account ON audit_log (subject_id) WHERE action LIKE 'user.%';
COMMENT ON INDEX audit_log_of_account IS 'Changes made to one account.';

GRANT SELECT ON audit_log TO petstore_app;

CREATE TRIGGER audit_log_stay BEFORE UPDATE OR DELETE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER audit_log_stay ON audit_log IS 'The log is append-only.';

CREATE TABLE audit_addresses (
    audit_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    address inet NOT NULL,
    CONSTRAINT audit_addresses_pkey PRIMARY KEY (audit_id),
    CONSTRAINT audit_addresses_audit_id_fkey FOREIGN KEY (audit_id) REFERENCES audit_log
);
COMMENT ON TABLE audit_addresses
IS 'Client addresses of audit log entries. A separate table, so that they can be erased: with the account, or after 90 days.';
COMMENT ON COLUMN audit_addresses.audit_id IS 'The entry that the address belongs to.';
COMMENT ON COLUMN audit_addresses.created_at IS 'Same as created_at of the entry. The row is deleted 90 days later.';
COMMENT ON COLUMN audit_addresses.address IS 'Client address of the request, as reported by the trusted proxies.';

CREATE INDEX audit_addresses_age ON audit_addresses (created_at);
COMMENT ON INDEX audit_addresses_age IS 'For the purge of addresses older than 90 days.';

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
IS 'Called first in each transaction of the service that writes. Takes {"actor_id", "address"} for the audit log. '
'Locks the row of the actor, so that the account cannot be erased during the request.';

CREATE FUNCTION record_audit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = m2_be_project, pg_temp
AS $$
DECLARE
    -- What the service says of the request that runs this transaction; a session of psql says nothing.
    request jsonb := nullif(current_setting('petstore.request', true), '');
    actor bigint := request ->> 'actor_id';
    client inet := request ->> 'address';
    changed text[] := '{}';
    at timestamptz := now();
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
    -- An erasure is dated at its end, after all that the account did while it waited.
    IF TG_ARGV[0] = 'user.erase' THEN
        at := to_jsonb(new) ->> 'erased_at';
    END IF;
    INSERT INTO audit_log (created_at, actor_id, action, subject_id, fields) VALUES (at, actor, TG_ARGV[0], new.id, changed)
    RETURNING id INTO entry;
    IF client IS NOT NULL THEN
        INSERT INTO audit_addresses (audit_id, address) VALUES (entry, client);
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION record_audit()
IS 'Trigger function: writes one row of the audit log per changed row. The argument of the trigger is the action.';
REVOKE EXECUTE ON FUNCTION record_audit() FROM PUBLIC;

-- An account created in SQL has no known actor, and its created_at is in the row. Only a new admin is worth an entry.
CREATE TRIGGER users_create_audit AFTER INSERT ON users
FOR EACH ROW WHEN (new.role = 'admin' OR current_setting('petstore.request', true) <> '')
EXECUTE FUNCTION record_audit('user.create');
COMMENT ON TRIGGER users_create_audit ON users
IS 'Logs registrations through the service; of accounts created in SQL, only admins.';

CREATE TRIGGER users_update_audit AFTER UPDATE ON users
FOR EACH ROW WHEN (new.erased_at IS NULL)
EXECUTE FUNCTION record_audit('user.update');
COMMENT ON TRIGGER users_update_audit ON users IS 'Logs that role, active, email or password changed, without the values.';

CREATE TRIGGER users_erase_audit AFTER UPDATE ON users
FOR EACH ROW WHEN (new.erased_at IS NOT NULL)
EXECUTE FUNCTION record_audit('user.erase');
COMMENT ON TRIGGER users_erase_audit ON users IS 'Logs an erasure as an action of its own.';

CREATE TRIGGER sessions_start_audit AFTER INSERT ON sessions
FOR EACH ROW WHEN (current_setting('petstore.request', true) <> '')
EXECUTE FUNCTION record_audit('session.start');
COMMENT ON TRIGGER sessions_start_audit ON sessions IS 'Logs logins through the service.';

CREATE TRIGGER sessions_end_audit AFTER UPDATE OF ended_at ON sessions
FOR EACH ROW EXECUTE FUNCTION record_audit('session.end');
COMMENT ON TRIGGER sessions_end_audit ON sessions
IS 'Logs logouts, and sessions that were ended because a refresh token was used twice.';


-- ── catalogue ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

-- fillfactor: purchases update stock all the time. Free space on the page allows HOT updates, which leave the indexes alone.
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
    CONSTRAINT products_name_readable CHECK (is_line(name)),
    CONSTRAINT products_price_range CHECK (price <= 999999999),
    CONSTRAINT products_stock_range CHECK (stock BETWEEN 0 AND 1000000000),
    CONSTRAINT products_version_positive CHECK (version > 0)
) WITH (fillfactor = 85);
COMMENT ON TABLE products IS 'Products that are or were on sale. A deleted product keeps its row, because invoices refer to it.';
COMMENT ON COLUMN products.id IS 'Never reused. The catalogue is listed, and purchases lock products, in this order.';
COMMENT ON COLUMN products.name IS 'Current name. An invoice keeps the name at the time of purchase.';
COMMENT ON COLUMN products.price IS 'Current price of one piece. An invoice keeps the price at the time of purchase.';
COMMENT ON COLUMN products.stock
IS 'Pieces that can be sold now. Every change, also one made in psql, is recorded in stock_movements.';
COMMENT ON COLUMN products.version IS 'Increases with each edit by an admin, not with purchases. Used to detect edit conflicts.';
COMMENT ON COLUMN products.created_at IS 'When the product was added to the catalogue.';
COMMENT ON COLUMN products.updated_at IS 'Time of the last edit by an admin. Purchases do not change it.';
COMMENT ON COLUMN products.deleted_at IS 'When the product was deleted; NULL while it is on sale.';
COMMENT ON CONSTRAINT products_name_trimmed ON products IS 'No spaces at the ends: names that look the same are the same.';
COMMENT ON CONSTRAINT products_name_readable ON products IS 'As is_line() has it: an invoice shows the name for ever.';
COMMENT ON CONSTRAINT products_price_range ON products
IS 'At most 999,999,999: a line of a million pieces still fits into the domain amount.';
COMMENT ON CONSTRAINT products_stock_range ON products IS 'Never negative: the last guard against overselling.';

CREATE INDEX products_on_sale ON products (id) WHERE deleted_at IS NULL;
COMMENT ON INDEX products_on_sale IS 'Pages of the catalogue, without scanning deleted products.';

GRANT
SELECT, INSERT (name, price, stock), UPDATE (name, price, stock, version, updated_at, deleted_at)
ON products TO petstore_app;

GRANT SELECT ON products TO petstore_report;

CREATE TRIGGER products_create_audit AFTER INSERT ON products
FOR EACH ROW WHEN (current_setting('petstore.request', true) <> '')
EXECUTE FUNCTION record_audit('product.create');
COMMENT ON TRIGGER products_create_audit ON products
IS 'Logs products created through the service. Those created in SQL are only in stock_movements.';

-- A change of stock alone, such as a purchase, is recorded in stock_movements, not here.
CREATE TRIGGER products_update_audit AFTER UPDATE OF name, price, version, deleted_at ON products
FOR EACH ROW WHEN (old.deleted_at IS NOT NULL OR new.deleted_at IS NULL)
EXECUTE FUNCTION record_audit('product.update');
COMMENT ON TRIGGER products_update_audit ON products
IS 'Logs edits of name, price or version, and the restoring of a deleted product.';

CREATE TRIGGER products_delete_audit AFTER UPDATE OF deleted_at ON products
FOR EACH ROW WHEN (old.deleted_at IS NULL AND new.deleted_at IS NOT NULL)
EXECUTE FUNCTION record_audit('product.delete');
COMMENT ON TRIGGER products_delete_audit ON products IS 'Logs a deletion as an action of its own.';


-- ── invoices ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE invoice_statuses (
    status text NOT NULL,
    CONSTRAINT invoice_statuses_pkey PRIMARY KEY (status),
    CONSTRAINT invoice_statuses_form CHECK (status ~ '^[a-z]{1,20}$')
);
COMMENT ON TABLE invoice_statuses IS 'The statuses that an invoice can have.';
COMMENT ON COLUMN invoice_statuses.status IS 'In lower case, as the API shows it.';
COMMENT ON CONSTRAINT invoice_statuses_form ON invoice_statuses IS 'One word of at most 20 lower-case letters.';
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
IS 'Allowed changes of status; they are defined only here. A status that no row leaves is final.';
COMMENT ON COLUMN invoice_transitions.from_status IS 'Status before the change.';
COMMENT ON COLUMN invoice_transitions.to_status IS 'Status after the change.';
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
COMMENT ON COLUMN invoices.id IS 'Identifies the invoice in the API. Has gaps, unlike number.';
COMMENT ON COLUMN invoices.number
IS 'Assigned when the invoice is paid; without gaps in its UTC year (see number_series), such as 2026-000001.';
COMMENT ON COLUMN invoices.user_id IS 'The buyer. Only the buyer and admins can see the invoice.';
COMMENT ON COLUMN invoices.status IS 'Current status. Changed by an UPDATE, which a trigger checks against invoice_transitions.';
COMMENT ON COLUMN invoices.total IS 'Sum of the line totals. Never changes.';
COMMENT ON COLUMN invoices.created_at IS 'Time of the purchase. The year in number is that of the payment, not of the purchase.';
COMMENT ON CONSTRAINT invoices_number_form ON invoices IS 'Year, hyphen, at least six digits: 2026-000001.';
COMMENT ON CONSTRAINT invoices_number_since_paid ON invoices
IS 'Every invoice that was ever paid has a number. Unpaid and cancelled invoices use none up.';

CREATE INDEX invoices_of_user ON invoices (user_id, created_at, id);
COMMENT ON INDEX invoices_of_user IS 'Invoices of one customer by time.';

CREATE INDEX invoices_age ON invoices (created_at, id);
COMMENT ON INDEX invoices_age IS 'Invoices of all customers by time.';

CREATE INDEX invoices_of_status ON invoices (status, created_at, id);
COMMENT ON INDEX invoices_of_status IS 'Invoices with one status by time, such as unpaid ones, oldest first.';

GRANT SELECT, INSERT (user_id, total), UPDATE (status) ON invoices TO petstore_app;
GRANT SELECT ON invoices TO petstore_report;

CREATE TRIGGER invoices_stay BEFORE DELETE ON invoices
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER invoices_stay ON invoices IS 'Invoices are cancelled or credited, never deleted.';

CREATE TRIGGER invoices_amount_fixed BEFORE UPDATE OF total, number ON invoices
FOR EACH ROW WHEN (new.total <> old.total OR (old.number IS NOT NULL AND new.number IS DISTINCT FROM old.number))
EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER invoices_amount_fixed ON invoices IS 'The total never changes, and neither does a number once it is assigned.';

CREATE TRIGGER invoices_create_audit AFTER INSERT ON invoices
FOR EACH ROW WHEN (current_setting('petstore.request', true) <> '')
EXECUTE FUNCTION record_audit('invoice.create');
COMMENT ON TRIGGER invoices_create_audit ON invoices IS 'Logs purchases through the service.';

CREATE TRIGGER invoices_update_audit AFTER UPDATE ON invoices
FOR EACH ROW EXECUTE FUNCTION record_audit('invoice.update');
COMMENT ON TRIGGER invoices_update_audit ON invoices IS 'Logs every change of status, also one made in SQL.';

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
COMMENT ON TABLE invoice_details IS 'Lines of an invoice, one per product, with the name and price at the time of purchase.';
COMMENT ON COLUMN invoice_details.id
IS 'For tools that need a single-column key. Everything else identifies a line by invoice_id and product_id.';
COMMENT ON COLUMN invoice_details.invoice_id IS 'The invoice that the line belongs to.';
COMMENT ON COLUMN invoice_details.product_id IS 'The product bought. It may have been deleted since.';
COMMENT ON COLUMN invoice_details.name IS 'Name of the product at the time of purchase.';
COMMENT ON COLUMN invoice_details.unit_price IS 'Price of one piece at the time of purchase.';
COMMENT ON COLUMN invoice_details.quantity IS 'Pieces bought: at most 100 lines of a request, of 10,000 pieces each.';
COMMENT ON COLUMN invoice_details.line_total IS 'unit_price times quantity, computed by PostgreSQL.';
COMMENT ON COLUMN invoice_details.credited
IS 'Pieces that credit notes have credited; updated by a trigger of credit_note_lines.';
COMMENT ON COLUMN invoice_details.restocked IS 'Pieces that went back into stock; updated by record_stock().';
COMMENT ON CONSTRAINT invoice_details_one_line_per_product ON invoice_details
IS 'Lines of a request that name the same product are summed. Credit notes and stock movements refer to this key.';
COMMENT ON CONSTRAINT invoice_details_credited_range ON invoice_details
IS 'Never more credited than bought, also with concurrent credit notes.';

ALTER TABLE invoice_details ADD CONSTRAINT invoice_details_name_readable
CHECK (credited > 0 OR restocked > 0 OR is_line(name)) NOT VALID;
COMMENT ON CONSTRAINT invoice_details_name_readable ON invoice_details
IS 'As is_line() has it, when the line is written; later only its counters change. '
'NOT VALID, since names from before the rule stay.';

-- No index on product_id: product rows are never deleted, so nothing looks up their lines, and each purchase would maintain it.
GRANT SELECT, INSERT (invoice_id, product_id, name, unit_price, quantity) ON invoice_details TO petstore_app;
GRANT SELECT ON invoice_details TO petstore_report;

CREATE TRIGGER invoice_details_stay
BEFORE DELETE OR UPDATE OF invoice_id, product_id, name, unit_price, quantity ON invoice_details
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER invoice_details_stay ON invoice_details IS 'Product, name, price and quantity of a sale never change.';

CREATE TRIGGER invoice_details_only_grow BEFORE UPDATE OF credited, restocked ON invoice_details
FOR EACH ROW WHEN (new.credited < old.credited OR new.restocked < old.restocked)
EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER invoice_details_only_grow ON invoice_details
IS 'Both counters only grow, so that nothing is credited or restocked twice.';

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
COMMENT ON FUNCTION check_invoice_total()
IS 'Trigger function: the total of an invoice must be the sum of its lines when the transaction ends.';

CREATE CONSTRAINT TRIGGER invoices_total_is_sum AFTER INSERT ON invoices
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_invoice_total();
COMMENT ON TRIGGER invoices_total_is_sum ON invoices IS 'Runs at COMMIT, when the lines exist.';

CREATE CONSTRAINT TRIGGER invoice_details_total_is_sum AFTER INSERT ON invoice_details
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_invoice_total();
COMMENT ON TRIGGER invoice_details_total_is_sum ON invoice_details
IS 'Runs at COMMIT. Rejects a line added to an existing invoice.';

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
IS 'Changes of an invoice''s status. Append-only; only a reason given by the customer can be erased.';
COMMENT ON COLUMN invoice_events.id IS 'Order of the events.';
COMMENT ON COLUMN invoice_events.invoice_id IS 'The invoice whose status changed.';
COMMENT ON COLUMN invoice_events.from_status IS 'Status before the change.';
COMMENT ON COLUMN invoice_events.to_status IS 'Status after the change.';
COMMENT ON COLUMN invoice_events.actor_id IS 'The user who asked for the change. A change made in SQL has no event.';
COMMENT ON COLUMN invoice_events.restocked IS 'Whether the goods went back into stock.';
COMMENT ON COLUMN invoice_events.reason IS 'Reason given by the actor; NULL if none was given.';
COMMENT ON COLUMN invoice_events.created_at IS 'Start of the transaction that changed the status.';
COMMENT ON CONSTRAINT invoice_events_transition_fkey ON invoice_events
IS 'Only transitions in invoice_transitions. A transition that has been used cannot be deleted there.';
COMMENT ON CONSTRAINT invoice_events_once ON invoice_events
IS 'No status is left twice (the transitions have no cycle), so nothing is restocked twice.';

ALTER TABLE invoice_events ADD CONSTRAINT invoice_events_reason_readable
CHECK (is_line(translate(reason, chr(9) || chr(10), '  '))) NOT VALID;
COMMENT ON CONSTRAINT invoice_events_reason_readable ON invoice_events
IS 'As is_line() has it, also with line feeds and tabs. '
'NOT VALID, since reasons from before the rule stay.';

GRANT
SELECT, INSERT (invoice_id, from_status, to_status, actor_id, restocked, reason), UPDATE (reason)
ON invoice_events TO petstore_app;

GRANT SELECT ON invoice_events TO petstore_report;

CREATE TRIGGER invoice_events_stay
BEFORE DELETE OR UPDATE OF id, invoice_id, from_status, to_status, actor_id, restocked, created_at ON invoice_events
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER invoice_events_stay ON invoice_events IS 'Events never change.';

CREATE TRIGGER invoice_events_words_only_erased BEFORE UPDATE OF reason ON invoice_events
FOR EACH ROW WHEN (new.reason IS NOT NULL)
EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER invoice_events_words_only_erased ON invoice_events IS 'A reason can be set to NULL, but not to another text.';


-- ── numbers and credit notes ───────────────────────────────────────────────────────────────────────────────────────────────

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
IS 'Last number of each series and UTC year. The row stays locked until the transaction that takes a number ends: no gaps.';
COMMENT ON COLUMN number_series.series IS 'invoice; or credit_note, whose numbers begin with C.';
COMMENT ON COLUMN number_series.year IS 'UTC year of the transactions that took the numbers.';
COMMENT ON COLUMN number_series.last IS 'The last number taken.';
COMMENT ON CONSTRAINT number_series_known ON number_series IS 'A new series also needs a prefix in next_number().';
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
IS 'The next number of a series (invoice or credit_note) in the current UTC year. A rollback gives it back.';

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
IS 'Trigger function of invoices: allows only transitions in invoice_transitions, and assigns the number on payment.';

CREATE TRIGGER invoices_enter_status BEFORE UPDATE OF status ON invoices
FOR EACH ROW WHEN (new.status <> old.status)
EXECUTE FUNCTION enter_status();
COMMENT ON TRIGGER invoices_enter_status ON invoices
IS 'Allows only transitions in invoice_transitions. The first one that is not a cancellation assigns the number.';

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
COMMENT ON TABLE credit_notes IS 'Credits of an invoice, in part or in full. The amounts of the invoice itself never change.';
COMMENT ON COLUMN credit_notes.id IS 'Its lines refer to it. Has gaps, unlike number.';
COMMENT ON COLUMN credit_notes.invoice_id IS 'The invoice that is credited.';
COMMENT ON COLUMN credit_notes.number IS 'Without gaps in its UTC year (see number_series), such as C2026-000001.';
COMMENT ON COLUMN credit_notes.actor_id IS 'The user who made it.';
COMMENT ON COLUMN credit_notes.reason IS 'Reason given by the actor; NULL if none was given.';
COMMENT ON COLUMN credit_notes.created_at IS 'Start of the transaction that made it. Its UTC year is the year in number.';
COMMENT ON CONSTRAINT credit_notes_of_invoice_key ON credit_notes
IS 'For the foreign key of credit_note_lines. Also finds the credit notes of an invoice.';
COMMENT ON CONSTRAINT credit_notes_number_form ON credit_notes IS 'C, year, hyphen, at least six digits: C2026-000001.';

ALTER TABLE credit_notes ADD CONSTRAINT credit_notes_reason_readable
CHECK (is_line(translate(reason, chr(9) || chr(10), '  '))) NOT VALID;
COMMENT ON CONSTRAINT credit_notes_reason_readable ON credit_notes
IS 'As is_line() has it, also with line feeds and tabs. '
'NOT VALID, since reasons from before the rule stay.';

GRANT SELECT, INSERT (invoice_id, actor_id, reason) ON credit_notes TO petstore_app;
GRANT SELECT ON credit_notes TO petstore_report;

CREATE TRIGGER credit_notes_stay BEFORE UPDATE OR DELETE ON credit_notes
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER credit_notes_stay ON credit_notes IS 'Credit notes never change: the customer has them.';

CREATE TRIGGER credit_notes_create_audit AFTER INSERT ON credit_notes
FOR EACH ROW EXECUTE FUNCTION record_audit('credit_note.create');
COMMENT ON TRIGGER credit_notes_create_audit ON credit_notes IS 'Logs every credit note, also one made in SQL.';

CREATE FUNCTION number_credit_note() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = m2_be_project, pg_temp
AS $$
BEGIN
    new.number := next_number('credit_note');
    RETURN new;
END
$$;
COMMENT ON FUNCTION number_credit_note() IS 'Trigger function of credit_notes: assigns the number.';

CREATE TRIGGER credit_notes_number BEFORE INSERT ON credit_notes
FOR EACH ROW WHEN (new.number IS NULL)
EXECUTE FUNCTION number_credit_note();
COMMENT ON TRIGGER credit_notes_number ON credit_notes
IS 'Assigns the next number. A number set by the owner, as in an import, is kept.';

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
COMMENT ON TABLE credit_note_lines IS 'Pieces of an invoice line that a credit note credits, at the unit price of that line.';
COMMENT ON COLUMN credit_note_lines.credit_note_id IS 'The credit note that the line belongs to.';
COMMENT ON COLUMN credit_note_lines.invoice_id
IS 'Invoice of the credit note. Repeated here so that foreign keys tie the line to the same invoice.';
COMMENT ON COLUMN credit_note_lines.product_id IS 'The product credited.';
COMMENT ON COLUMN credit_note_lines.quantity
IS 'Pieces credited; invoice_details_credited_range limits them. '
'The amount is quantity times the unit price of the invoice line.';
COMMENT ON COLUMN credit_note_lines.restock IS 'Whether these pieces went back into stock.';
COMMENT ON CONSTRAINT credit_note_lines_pkey ON credit_note_lines
IS 'At most two lines per product: pieces that went back into stock, and pieces that did not.';
COMMENT ON CONSTRAINT credit_note_lines_credit_note_fkey ON credit_note_lines
IS 'The line has the same invoice as its credit note.';
COMMENT ON CONSTRAINT credit_note_lines_invoice_detail_fkey ON credit_note_lines
IS 'Only products of that invoice can be credited.';
GRANT SELECT, INSERT ON credit_note_lines TO petstore_app;
GRANT SELECT ON credit_note_lines TO petstore_report;

CREATE TRIGGER credit_note_lines_stay BEFORE UPDATE OR DELETE ON credit_note_lines
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER credit_note_lines_stay ON credit_note_lines IS 'Lines of credit notes never change.';

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
IS 'Trigger function of credit_notes: a credit note must have lines when the transaction ends.';

CREATE CONSTRAINT TRIGGER credit_notes_have_lines AFTER INSERT ON credit_notes
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_credit_note_lines();
COMMENT ON TRIGGER credit_notes_have_lines ON credit_notes IS 'Runs at COMMIT, when the lines exist.';

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
IS 'Trigger function: adds credited pieces to the invoice lines, where invoice_details_credited_range limits them.';

CREATE TRIGGER credit_note_lines_count AFTER INSERT ON credit_note_lines
REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION count_credited();
COMMENT ON TRIGGER credit_note_lines_count ON credit_note_lines
IS 'Updates invoice_details.credited. The row lock makes concurrent credit notes of a line wait for each other.';


-- ── stock ledger ───────────────────────────────────────────────────────────────────────────────────────────────────────────

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
IS 'Ledger of stock: every change of the stock of a product. '
'Append-only; written by triggers of products, whoever changes the stock.';
COMMENT ON COLUMN stock_movements.id
IS 'Order of the movements of one product: each is written while the row of the product is locked.';
COMMENT ON COLUMN stock_movements.product_id IS 'The product whose stock changed.';
COMMENT ON COLUMN stock_movements.kind
IS 'initial, sale, cancel_restock, return_restock (by a credit note), adjust (by an admin, or in SQL).';
COMMENT ON COLUMN stock_movements.delta IS 'Pieces added (positive) or removed (negative).';
COMMENT ON COLUMN stock_movements.stock IS 'Stock after the movement.';
COMMENT ON COLUMN stock_movements.invoice_id IS 'The invoice of a sale or restock; NULL for initial and adjust.';
COMMENT ON COLUMN stock_movements.actor_id IS 'The user who caused it; NULL for a change made in SQL.';
COMMENT ON COLUMN stock_movements.reason IS 'Reason given by the actor. For a change made in SQL: the database role.';
COMMENT ON COLUMN stock_movements.created_at
IS 'Time of the movement itself, not the start of the transaction, so that times have the order of the ids of a product.';
COMMENT ON CONSTRAINT stock_movements_invoice_detail_fkey ON stock_movements
IS 'A sale or restock refers to a line of its invoice.';
COMMENT ON CONSTRAINT stock_movements_sign ON stock_movements
IS 'Sales remove pieces, restocks add them, and the initial movement equals the stock.';
COMMENT ON CONSTRAINT stock_movements_invoice_of_kind ON stock_movements
IS 'Sales and restocks have an invoice; other movements have none.';

ALTER TABLE stock_movements ADD CONSTRAINT stock_movements_reason_readable
CHECK (is_line(translate(reason, chr(9) || chr(10), '  '))) NOT VALID;
COMMENT ON CONSTRAINT stock_movements_reason_readable ON stock_movements
IS 'As is_line() has it, also with line feeds and tabs. '
'NOT VALID, since reasons from before the rule stay.';

CREATE INDEX stock_movements_of_product ON stock_movements (product_id, id DESC);
COMMENT ON INDEX stock_movements_of_product IS 'Ledger of one product, newest first.';

GRANT SELECT ON stock_movements TO petstore_app, petstore_report;

CREATE TRIGGER stock_movements_stay BEFORE UPDATE OR DELETE ON stock_movements
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
COMMENT ON TRIGGER stock_movements_stay ON stock_movements IS 'The ledger is append-only.';

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
IS 'Tells record_stock() why the statement that calls it changes stock. Valid for this one statement.';

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
IS 'Trigger function: writes a movement for every stock that a statement changed, with the cause given to stock_cause().';

-- Otherwise another role could attach these to a table of its own, and write with the rights of the owner.
REVOKE EXECUTE ON FUNCTION record_stock(), count_credited(), enter_status(), number_credit_note(), next_number(text) FROM PUBLIC;

CREATE TRIGGER products_insert_record_stock AFTER INSERT ON products
REFERENCING NEW TABLE AS after_rows
FOR EACH STATEMENT EXECUTE FUNCTION record_stock();
COMMENT ON TRIGGER products_insert_record_stock ON products
IS 'Writes the first movement of every product, however it is inserted.';

CREATE TRIGGER products_update_record_stock AFTER UPDATE ON products
REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows
FOR EACH STATEMENT EXECUTE FUNCTION record_stock();
COMMENT ON TRIGGER products_update_record_stock ON products
IS 'Writes a movement for every stock that changes, whoever changes it.';


-- ── idempotency keys ───────────────────────────────────────────────────────────────────────────────────────────────────────

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
IS 'Responses to writes with an Idempotency-Key, kept for 24 hours. Stored in the transaction of the write.';
COMMENT ON COLUMN idempotency_keys.user_id IS 'Owner of the key. Two users may use the same key.';
COMMENT ON COLUMN idempotency_keys.route IS 'Method and route, such as POST /purchase_product.';
COMMENT ON COLUMN idempotency_keys.key IS 'As sent by the client. Unique per user and route.';
COMMENT ON COLUMN idempotency_keys.fingerprint
IS 'SHA-256 of method, route, parameters and body. The same key with another request is rejected. '
'The request itself is not kept, as it may be personal.';
COMMENT ON COLUMN idempotency_keys.status IS 'HTTP status of the response; NULL only while its transaction runs.';
COMMENT ON COLUMN idempotency_keys.location IS 'Location header of the response; NULL if it has none.';
COMMENT ON COLUMN idempotency_keys.body
IS 'Body of the response. Of a refusal (status 4xx) that the request and some facts tell, a JSON array: slug, request id, facts; '
'over 1,000 bytes it is deflated (zlib; the first byte is x).';
COMMENT ON COLUMN idempotency_keys.created_at IS 'When the key was claimed. It can be claimed again after 24 hours.';
COMMENT ON CONSTRAINT idempotency_keys_pkey ON idempotency_keys
IS 'One response per user, route and key: of two concurrent requests with the same key, one runs.';
COMMENT ON CONSTRAINT idempotency_keys_key_form ON idempotency_keys IS '1 to 255 printable ASCII characters.';
COMMENT ON CONSTRAINT idempotency_keys_status_range ON idempotency_keys
IS 'Success or refusal. Server errors (5xx) are never kept, so that a retry runs again.';
COMMENT ON CONSTRAINT idempotency_keys_whole ON idempotency_keys
IS 'A response has both status and body; until it is stored, there is neither.';

CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
COMMENT ON INDEX idempotency_keys_age IS 'For the purge of keys older than 24 hours.';

GRANT
SELECT, INSERT (user_id, route, key, fingerprint), UPDATE (fingerprint, status, location, body, created_at), DELETE
ON idempotency_keys TO petstore_app;

COMMIT;
