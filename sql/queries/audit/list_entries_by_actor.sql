-- One page of the audit log entries of one user, newest first.
--
--   actor_id  bigint       the user
--   action    text         only this action, such as product.update; NULL (empty in psql) for any
--   since     timestamptz  only entries at or after this time; NULL (empty in psql) for no limit
--   until     timestamptz  only entries before this time; NULL (empty in psql) for no limit
--   before    bigint       last id of the previous page, with the same filters; 0 for the first page
--   limit     integer      maximum number of rows
--
-- Locks: none.
-- psql -v actor_id=1 -v action= -v since= -v until= -v before=0 -v limit=50 -f sql/queries/audit/list_entries_by_actor.sql
SELECT id, created_at, actor_id, action, subject_id, fields
FROM audit_log
WHERE
    -- Compares the whole key of one index as a row, so that the planner uses this index for all values.
    (actor_id, created_at, id) < (
        :'actor_id'::bigint,
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
    AND (actor_id, created_at) >= (:'actor_id'::bigint, (SELECT coalesce(nullif(:'since'::text, '')::timestamptz, '-infinity')))
    AND (nullif(:'action'::text, '') IS NULL OR action = :'action'::text)
ORDER BY actor_id DESC, created_at DESC, id DESC
LIMIT :'limit'::integer;
