-- One page of what one user did, newest first.
--
--   actor_id  bigint       the user
--   action    text         only this action, such as product.update; NULL (empty in psql) for any
--   since     timestamptz  only at this time or later; NULL (empty in psql) for any
--   until     timestamptz  only before this time; NULL (empty in psql) for any
--   before    bigint       the last id of the page before, of the same filters; 0 for the first page
--   limit     integer      rows at most
--
-- Locks: none.
-- psql -v actor_id=1 -v action= -v since= -v until= -v before=0 -v limit=50 -f sql/queries/audit/list_entries_by_actor.sql
SELECT id, created_at, actor_id, action, subject_id, fields
FROM audit_log
WHERE
    -- By all of an index, and not by its first column and the rest: so no plan takes another index, whatever the values.
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
    -- A query of its own, so that the time is read once and not once a row.
    AND (actor_id, created_at) >= (:'actor_id'::bigint, (SELECT coalesce(nullif(:'since'::text, '')::timestamptz, '-infinity')))
    AND (nullif(:'action'::text, '') IS NULL OR action = :'action'::text)
ORDER BY actor_id DESC, created_at DESC, id DESC
LIMIT :'limit'::integer;
