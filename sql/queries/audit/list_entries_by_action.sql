-- One page of the audit log entries with one action, newest first.
--
--   action  text         the action, such as product.update
--   since   timestamptz  only entries at or after this time; NULL (empty in psql) for no limit
--   until   timestamptz  only entries before this time; NULL (empty in psql) for no limit
--   before  bigint       last id of the previous page, with the same filters; 0 for the first page
--   limit   integer      maximum number of rows
--
-- Locks: none.
-- psql -v action=user.update -v since= -v until= -v before=0 -v limit=50 -f sql/queries/audit/list_entries_by_action.sql
SELECT id, created_at, actor_id, action, subject_id, fields
FROM audit_log
WHERE
    -- Compares the whole key of one index as a row, so that the planner uses this index for all values.
    (action, created_at, id) < (
        :'action'::text,
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
    -- A scalar subquery runs once, so that the text is not converted to a time for each row.
    AND (action, created_at) >= (:'action'::text, (SELECT coalesce(nullif(:'since'::text, '')::timestamptz, '-infinity')))
ORDER BY action DESC, created_at DESC, id DESC
LIMIT :'limit'::integer;
