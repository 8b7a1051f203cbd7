-- Fills in session_uuid of the sessions that were there before 0011.
-- no transaction
--
-- Goes by ranges of the key, so that each batch costs the same, also after a restart: what is filled in already is passed over.
-- The updates change neither the end nor the expiry of a session, so no trigger runs.
--
-- Locks: the rows of a batch, for milliseconds.
-- Rewrites: nothing.
-- Safe: yes
-- psql -v ON_ERROR_STOP=1 -f sql/migrations/0012_fill_session_uuid.sql
DO $$
DECLARE
    place bigint := (SELECT min(id) - 1 FROM sessions);
    newest bigint := (SELECT max(id) FROM sessions);
    batch integer;
    filled integer := 0;
    batches integer := 0;
BEGIN
    WHILE place < newest LOOP
        UPDATE sessions SET session_uuid = gen_random_uuid()
        WHERE id > place AND id <= place + 1000 AND session_uuid IS NULL;
        GET DIAGNOSTICS batch = ROW_COUNT;
        COMMIT;
        filled := filled + batch;
        place := place + 1000;
        batches := batches + 1;
        IF batches % 100 = 0 THEN
            RAISE NOTICE '% sessions filled in, up to id % of %', filled, place, newest;
        END IF;
        IF batch > 0 THEN
            PERFORM pg_sleep(0.005);
        END IF;
    END LOOP;
END
$$;

INSERT INTO schema_version (version, name, safe) VALUES (12, 'fill_session_uuid', true);
