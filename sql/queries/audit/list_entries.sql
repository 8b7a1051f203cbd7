-- One page of the audit log, newest first.
--
--   since   timestamptz  only at this time or later; NULL (empty in psql) for any
--   until   timestamptz  only before this time; NULL (empty in psql) for any
--   before  bigint       the last id of the page before, of the same filters; 0 for the first page
--   limit   integer      rows at most
--
-- Locks: none.
-- psql -v since= -v until= -v before=0 -v limit=50 -f sql/queries/audit/list_entries.sql
SELECT id, created_at, actor_id, action, subject_id, fields
FROM audit_log
WHERE
    (created_at, id) < (
        coalesce(
            (
                SELECT b.created_at FROM audit_log AS b
                WHERE b.id = :'before'::bigint
            ),
            nullif(:'until'::text, '')::timestamptz,
            'infinity'
        ),
        :'before'::bigint
    )
    -- A query of its own, so that the time is read once and not once a row.
    AND created_at >= (SELECT coalesce(nullif(:'since'::text, '')::timestamptz, '-infinity'))
ORDER BY created_at DESC, id DESC
LIMIT :'limit'::integer;
