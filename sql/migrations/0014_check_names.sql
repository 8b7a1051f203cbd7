-- Lets no product have a name that cannot be read on one line, after mending those that have one.
-- no transaction
--
-- A control character becomes a blank, and one that turns the direction of writing goes; a name of which nothing can be seen then becomes
-- `product` and its id. Each is an edit (version, updated_at, audit log) with a COMMIT of its own, and is told by its id. A product with
-- such a name could not be sold under the check, since every UPDATE looks at it. So the names are mended before it is there, and once
-- more after it, when nobody can add one. Lines of invoices keep the old name.
--
-- Locks: ACCESS EXCLUSIVE on products, for milliseconds: the rows are not checked then. SHARE UPDATE EXCLUSIVE while it reads every row;
--   nobody waits for it. The row of a product whose name is mended.
-- Rewrites: nothing.
-- Safe: yes
-- psql -v ON_ERROR_STOP=1 -f sql/migrations/0014_check_names.sql
CREATE OR REPLACE FUNCTION is_line(words text) RETURNS boolean
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

CREATE OR REPLACE PROCEDURE mend_names()
LANGUAGE plpgsql
AS $$
DECLARE
    product record;
    mended text;
BEGIN
    FOR product IN SELECT p.id FROM products AS p WHERE NOT is_line(p.name) ORDER BY p.id LOOP
        SELECT
            btrim(regexp_replace(
                regexp_replace(p.name, '[\u202a-\u202e\u2066-\u2069]', '', 'g'), '[\u0001-\u001f\u007f-\u009f\u2028\u2029]+', ' ', 'g'
            ))
        INTO mended
        FROM products AS p WHERE p.id = product.id FOR UPDATE;
        UPDATE products AS p
        SET
            name = CASE WHEN is_line(mended) THEN mended ELSE 'product ' || p.id END,
            version = p.version + 1,
            updated_at = now()
        WHERE p.id = product.id AND NOT is_line(p.name);
        IF FOUND THEN
            RAISE NOTICE 'the name of product % could not be read on one line; it is mended', product.id;
        END IF;
        COMMIT;
    END LOOP;
END
$$;

CALL mend_names();

ALTER TABLE products
-- An interrupted run may have left it; the next line adds it again.
-- squawk-ignore ban-drop-constraint
DROP CONSTRAINT IF EXISTS products_name_readable,
ADD CONSTRAINT products_name_readable CHECK (is_line(name)) NOT VALID;

CALL mend_names();

ALTER TABLE products VALIDATE CONSTRAINT products_name_readable;

-- It was made above, for this file alone.
-- squawk-ignore ban-drop-function
DROP PROCEDURE mend_names();

COMMENT ON CONSTRAINT products_name_readable ON products IS 'As is_line() has it: an invoice shows the name for ever.';

INSERT INTO schema_version (version, name, safe) VALUES (14, 'check_names', true);
