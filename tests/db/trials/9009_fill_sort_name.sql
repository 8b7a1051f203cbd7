-- Fills in trial_sort_name of the products that were there before 9006.
-- no transaction
--
-- Goes by ranges of the key, so that each batch costs the same, also after a restart: what is filled in already is passed over.
-- The updates change neither name nor stock, so they write nothing into audit_log and stock_movements.
--
-- Locks: the rows of a batch, for milliseconds.
-- Rewrites: nothing.
-- Safe: yes
-- psql -v ON_ERROR_STOP=1 -f sql/migrations/9009_fill_sort_name.sql
DO $$
DECLARE
    place bigint := 0;
    newest bigint := (SELECT max(id) FROM products);
    batch integer;
    filled integer := 0;
BEGIN
    WHILE place < newest LOOP
        UPDATE products SET trial_sort_name = lower(name) WHERE id > place AND id <= place + 1000 AND trial_sort_name IS NULL;
        GET DIAGNOSTICS batch = ROW_COUNT;
        COMMIT;
        filled := filled + batch;
        place := place + 1000;
        IF place % 100000 = 0 THEN
            RAISE NOTICE '% products filled in, up to id % of %', filled, place, newest;
        END IF;
        IF batch > 0 THEN
            PERFORM pg_sleep(0.005);
        END IF;
    END LOOP;
END
$$;

INSERT INTO schema_version (version, name, safe) VALUES (9009, 'fill_sort_name', true);
