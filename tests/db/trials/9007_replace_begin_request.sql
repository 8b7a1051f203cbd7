-- Replaces the function that begins every transaction that writes; it does what it did before.
--
-- Locks: none on a table. Sessions that run the old one finish with it.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/9007_replace_begin_request.sql
CREATE OR REPLACE FUNCTION begin_request(request jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    -- This comment is new.
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

INSERT INTO schema_version (version, name, safe) VALUES (9007, 'replace_begin_request', true);
