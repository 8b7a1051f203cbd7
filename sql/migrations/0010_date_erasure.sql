-- Dates the entry of an erasure in the audit log as the erasure itself, which is dated at its end.
--
-- It was dated at the start of the transaction, and what the account did while that waited came after it.
--
-- Locks: SHARE UPDATE EXCLUSIVE on users and audit_log, for milliseconds. Sessions that run the old function finish with it.
-- Rewrites: nothing.
-- Safe: yes
-- PGOPTIONS='-c lock_timeout=200ms' psql -1 -v ON_ERROR_STOP=1 -f sql/migrations/0010_date_erasure.sql
CREATE OR REPLACE FUNCTION record_audit() RETURNS trigger
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

COMMENT ON COLUMN audit_log.created_at IS 'Start of the transaction that made the change; for an erasure, users.erased_at.';
COMMENT ON COLUMN users.erased_at
IS 'When the owner deleted the account; NULL if it was not deleted. Nothing that the account did is dated later.';

INSERT INTO schema_version (version, name, safe) VALUES (10, 'date_erasure', true);
