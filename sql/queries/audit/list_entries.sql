-- One page of the audit log, newest first.
--
--   actor_id  bigint       only by this user; NULL (empty in psql) for anybody
--   action    text         only this action, such as product.update; NULL (empty in psql) for any
--   since     timestamptz  only at this time or later; NULL (empty in psql) for any
--   until     timestamptz  only before this time; NULL (empty in psql) for any
--   before    bigint       the last id of the page before; 9223372036854775807 for the first page
--   limit     integer      rows at most
--
-- Locks: none.
-- psql -v actor_id= -v action=user.update -v since= -v until= -v before=9223372036854775807 -v limit=50 -f sql/queries/audit/list_entries.sql
SELECT id, created_at, actor_id, action, subject_id, fields
FROM audit_log
WHERE
    (created_at, id) < (
        coalesce(
            (
                SELECT b.created_at FROM audit_log AS b
                WHERE b.id = :'before'::bigint
            ),
            'infinity'
        ),
        :'before'::bigint
    )
    AND (nullif(:'actor_id'::text, '') IS NULL OR actor_id = nullif(:'actor_id'::text, '')::bigint)
    AND (nullif(:'action'::text, '') IS NULL OR action = :'action'::text)
    -- Each a query of its own, so that a time is read once and not once a row.
    AND created_at >= (SELECT coalesce(nullif(:'since'::text, '')::timestamptz, '-infinity'))
    AND created_at < (SELECT coalesce(nullif(:'until'::text, '')::timestamptz, 'infinity'))
ORDER BY created_at DESC, id DESC
LIMIT :'limit'::integer;
