-- Sets trial_sort_name of every product that is inserted or renamed from now on; 9009 fills in the others.
--
-- Locks: SHARE ROW EXCLUSIVE on products, for milliseconds.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/9006_keep_sort_name.sql
CREATE FUNCTION set_trial_sort_name() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    new.trial_sort_name := lower(new.name);
    RETURN new;
END
$$;
COMMENT ON FUNCTION set_trial_sort_name() IS 'Trigger function of products: trial_sort_name follows name.';

CREATE TRIGGER products_trial_sort_name BEFORE INSERT OR UPDATE OF name ON products
FOR EACH ROW EXECUTE FUNCTION set_trial_sort_name();
COMMENT ON TRIGGER products_trial_sort_name ON products IS 'Also for releases that do not know trial_sort_name.';

INSERT INTO schema_version (version, name, safe) VALUES (9006, 'keep_sort_name', true);
