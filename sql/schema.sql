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
GRANT USAGE ON SCHEMA m2_be_project TO petstore_app;

SET LOCAL search_path = m2_be_project;


-- ── what this database is ────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE schema_version (
    version integer NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT schema_version_pkey PRIMARY KEY (version),
    CONSTRAINT schema_version_positive CHECK (version > 0)
);
COMMENT ON TABLE schema_version IS 'Which schema this is: the highest version counts. The service refuses to work on any but its own.';
GRANT SELECT ON schema_version TO petstore_app;

INSERT INTO schema_version (version) VALUES (1);

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
COMMENT ON COLUMN shop.currency IS 'ISO 4217 code of every amount in this database.';
COMMENT ON COLUMN shop.minor_digits IS 'Digits after the point that the currency has: 2 for USD, 0 for JPY, 3 for KWD.';
COMMENT ON COLUMN shop.instance_id IS 'Tells this database from every other: the cache keeps its entries apart by it.';
GRANT SELECT ON shop TO petstore_app;

INSERT INTO shop (currency, minor_digits)
SELECT
    coalesce(given.currency, 'USD'),
    -- Of a currency that is given, the digits must be too: NULL is refused.
    CASE WHEN given.currency IS NULL THEN 2 ELSE given.minor_digits END
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


-- ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY,
    email text NOT NULL,
    password text NOT NULL,
    role text NOT NULL DEFAULT 'user',
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_email_form CHECK (char_length(email) BETWEEN 3 AND 254 AND email LIKE '_%@_%'),
    -- The cost is bounded too: whoever checks a password has to spend m KiB and t passes on it.
    CONSTRAINT users_password_is_a_hash CHECK (
        password ~ '^\$argon2id\$v=19\$m=[0-9]{1,6},t=[0-9]{1,2},p=[0-9]{1,2}\$[A-Za-z0-9+/]{1,86}\$[A-Za-z0-9+/]{1,86}$'
    ),
    CONSTRAINT users_role_known CHECK (role IN ('user', 'admin'))
);
COMMENT ON TABLE users IS 'Everybody who can log in.';
COMMENT ON COLUMN users.email IS 'As typed; unique without regard to case.';
COMMENT ON COLUMN users.password IS 'Argon2id hash as a PHC string, never the password.';
COMMENT ON COLUMN users.role IS 'user: buys. admin: keeps the catalogue and the invoices too.';

CREATE UNIQUE INDEX users_email_key ON users (lower(email));
COMMENT ON INDEX users_email_key IS 'One account per address, however its letters are cased; also what login looks up.';

GRANT SELECT, INSERT (email, password, role), UPDATE (password, role) ON users TO petstore_app;


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
COMMENT ON COLUMN products.price IS 'Price of one piece today; an invoice keeps the price of its day.';
COMMENT ON COLUMN products.stock IS 'Pieces that can be sold now.';
COMMENT ON COLUMN products.version IS 'Grows with each edit by an admin, not with purchases.';
COMMENT ON COLUMN products.updated_at IS 'Time of the last edit by an admin; purchases leave it.';
COMMENT ON COLUMN products.deleted_at IS 'NULL while on sale.';

CREATE INDEX products_on_sale ON products (id) WHERE deleted_at IS NULL;
COMMENT ON INDEX products_on_sale IS 'Pages of the catalogue, without walking over what was deleted.';

GRANT
SELECT, INSERT (name, price, stock), UPDATE (name, price, stock, version, updated_at, deleted_at)
ON products TO petstore_app;


-- ── invoices ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE invoice_statuses (
    status text NOT NULL,
    CONSTRAINT invoice_statuses_pkey PRIMARY KEY (status),
    CONSTRAINT invoice_statuses_form CHECK (status ~ '^[a-z]{1,20}$')
);
COMMENT ON TABLE invoice_statuses IS 'The states of an invoice.';
GRANT SELECT ON invoice_statuses TO petstore_app;

INSERT INTO invoice_statuses (status)
VALUES ('pending'), ('paid'), ('shipped'), ('delivered'), ('cancelled'), ('refunded');

CREATE TABLE invoice_transitions (
    from_status text NOT NULL,
    to_status text NOT NULL,
    restocks boolean NOT NULL,
    CONSTRAINT invoice_transitions_pkey PRIMARY KEY (from_status, to_status),
    CONSTRAINT invoice_transitions_from_status_fkey FOREIGN KEY (from_status) REFERENCES invoice_statuses,
    CONSTRAINT invoice_transitions_to_status_fkey FOREIGN KEY (to_status) REFERENCES invoice_statuses,
    CONSTRAINT invoice_transitions_moves CHECK (from_status <> to_status)
);
COMMENT ON TABLE invoice_transitions IS 'Which state may follow which: the only place that says so. What has no row here is final.';
COMMENT ON COLUMN invoice_transitions.restocks IS 'Whether the goods of the invoice go back into stock on the way.';
GRANT SELECT ON invoice_transitions TO petstore_app;

INSERT INTO invoice_transitions (from_status, to_status, restocks)
VALUES
    ('pending', 'paid', false),
    ('pending', 'cancelled', true),
    ('paid', 'shipped', false),
    ('paid', 'refunded', true),
    ('shipped', 'delivered', false),
    ('shipped', 'refunded', true),
    ('delivered', 'refunded', true);

CREATE TABLE invoices (
    id bigint GENERATED ALWAYS AS IDENTITY,
    user_id bigint NOT NULL,
    status text NOT NULL DEFAULT 'pending',
    total amount NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT invoices_pkey PRIMARY KEY (id),
    CONSTRAINT invoices_user_id_fkey FOREIGN KEY (user_id) REFERENCES users,
    CONSTRAINT invoices_status_fkey FOREIGN KEY (status) REFERENCES invoice_statuses
);
COMMENT ON TABLE invoices IS 'One row per purchase.';
COMMENT ON COLUMN invoices.total IS 'Sum of the line totals; never changes.';

CREATE INDEX invoices_of_user ON invoices (user_id, id DESC);
COMMENT ON INDEX invoices_of_user IS 'A customer''s invoices, newest first.';

GRANT SELECT, INSERT (user_id, total), UPDATE (status) ON invoices TO petstore_app;

CREATE TABLE invoice_details (
    id bigint GENERATED ALWAYS AS IDENTITY,
    invoice_id bigint NOT NULL,
    product_id bigint NOT NULL,
    name text NOT NULL,
    unit_price amount NOT NULL,
    quantity integer NOT NULL,
    line_total amount NOT NULL GENERATED ALWAYS AS (unit_price * quantity) STORED,
    CONSTRAINT invoice_details_pkey PRIMARY KEY (id),
    CONSTRAINT invoice_details_invoice_id_fkey FOREIGN KEY (invoice_id) REFERENCES invoices,
    CONSTRAINT invoice_details_product_id_fkey FOREIGN KEY (product_id) REFERENCES products,
    CONSTRAINT invoice_details_one_line_per_product UNIQUE (invoice_id, product_id),
    CONSTRAINT invoice_details_name_length CHECK (char_length(name) BETWEEN 1 AND 200),
    CONSTRAINT invoice_details_unit_price_range CHECK (unit_price <= 999999999),
    CONSTRAINT invoice_details_quantity_range CHECK (quantity BETWEEN 1 AND 1000000)
);
COMMENT ON TABLE invoice_details IS 'The lines of an invoice, one per product, with name and price as they were at the purchase.';
COMMENT ON COLUMN invoice_details.unit_price IS 'Price of one piece at the moment of purchase.';
COMMENT ON COLUMN invoice_details.quantity IS 'Pieces bought: at most 100 request lines of 10,000.';

-- No index on product_id: products are never deleted, so nothing looks for their lines, and every purchase would pay for it.
GRANT SELECT, INSERT (invoice_id, product_id, name, unit_price, quantity) ON invoice_details TO petstore_app;

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
COMMENT ON TABLE invoice_events IS 'Each change of an invoice''s status. Append-only for petstore_app.';
COMMENT ON COLUMN invoice_events.actor_id IS 'The user who asked for the change.';
COMMENT ON COLUMN invoice_events.restocked IS 'Whether the goods went back into stock with it.';
COMMENT ON COLUMN invoice_events.reason IS 'In the words of who asked; NULL when none was given.';
COMMENT ON CONSTRAINT invoice_events_once ON invoice_events
IS 'No state is left twice (the transitions have no circle), so nothing can be put back into stock twice.';

GRANT
SELECT, INSERT (invoice_id, from_status, to_status, actor_id, restocked, reason)
ON invoice_events TO petstore_app;

COMMIT;
