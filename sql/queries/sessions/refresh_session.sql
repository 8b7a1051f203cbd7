-- Exchanges a refresh token for the next one of its session; no row if the token was used before or the session has ended.
--
--   token_hash      bytea    SHA-256 of the token
--   new_hash        bytea    SHA-256 of the next token
--   seconds         integer  lifetime of the next token, which ends at the latest 365 days after the login
--   most            integer  tokens that a session may get within window_seconds
--   window_seconds  integer  the time in which they are counted
--
-- wait_seconds is 0; or so long a session that got its most has to wait, and then nothing is changed: the token stays valid.
-- session_uuid by way of JSON, because version 8 does not have it: NULL then.
--
-- Tokens of the session that were used before that time are deleted, at most 1,000: they tell their session themselves (end_reused_session).
--
-- Locks: sessions, the row, FOR NO KEY UPDATE, so that of two concurrent requests the second finds the token used; refresh_tokens, the
-- row, and those that it deletes. Adds a row to refresh_tokens.
-- psql -v token_hash='\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' -v new_hash='\xa7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a' -v seconds=2592000 -v most=100 -v window_seconds=600 -f sql/queries/sessions/refresh_session.sql
WITH RECURSIVE login AS (
    SELECT
        u.id,
        u.role,
        s.id AS session_id,
        u.token_version,
        to_jsonb(s) ->> 'session_uuid' AS session_uuid,
        t.created_at AS token_created_at
    FROM refresh_tokens AS t
    INNER JOIN sessions AS s ON t.session_id = s.id
    INNER JOIN users AS u ON s.user_id = u.id AND s.token_version = u.token_version
    WHERE
        t.token_hash = :'token_hash'::bytea
        AND t.used_at IS NULL
        AND s.ended_at IS NULL
        AND s.expires_at > now()
        AND u.active
    -- Before the token, as by whoever deletes both. After waiting, s is the row as the other one left it.
    FOR NO KEY UPDATE OF s
),

-- Back from the newest token, one at a time: a token was used in the transaction that made the next one, so at the same now(). That finds
-- each by the index on used_at, and the tokens from before the window are not read, however many the session has.
recent AS (
    SELECT session_id, token_created_at AS created_at, 1 AS number
    FROM login
    WHERE token_created_at > now() - make_interval(secs => :'window_seconds'::integer)
    UNION ALL
    SELECT t.session_id, t.created_at, r.number + 1 AS number
    FROM recent AS r
    INNER JOIN refresh_tokens AS t ON r.created_at = t.used_at AND r.session_id = t.session_id
    WHERE
        t.created_at > now() - make_interval(secs => :'window_seconds'::integer)
        AND t.created_at < r.created_at  -- else a clock that was set back could lead in a circle
        AND r.number < :'most'::integer
),

refused AS (
    SELECT
        ceil(extract(EPOCH FROM created_at + make_interval(secs => :'window_seconds'::integer) - now()))::integer AS wait_seconds
    FROM recent
    WHERE number = :'most'::integer
),

used AS (
    UPDATE refresh_tokens AS t
    SET used_at = now()
    FROM login
    WHERE
        t.token_hash = :'token_hash'::bytea
        AND t.used_at IS NULL  -- checked again: it may have been used meanwhile
        AND NOT EXISTS (SELECT FROM refused)
    RETURNING login.id, login.role, login.session_id, login.token_version, login.session_uuid
),

prolonged AS (
    UPDATE sessions AS s
    SET expires_at = least(now() + make_interval(secs => :'seconds'::integer), s.created_at + interval '365 days')
    FROM used
    WHERE s.id = used.session_id
),

next_token AS (
    INSERT INTO refresh_tokens (token_hash, session_id)
    SELECT :'new_hash'::bytea, session_id FROM used
),

forgotten AS (
    DELETE FROM refresh_tokens
    WHERE token_hash = any(
        array(
            SELECT t.token_hash
            FROM used
            INNER JOIN refresh_tokens AS t ON used.session_id = t.session_id
            WHERE t.used_at < now() - make_interval(secs => :'window_seconds'::integer)
            ORDER BY t.used_at
            LIMIT 1000
            FOR UPDATE OF t SKIP LOCKED
        )
    )
)

SELECT id, role, session_id, token_version, session_uuid, 0 AS wait_seconds
FROM used
UNION ALL
SELECT login.id, login.role, login.session_id, login.token_version, login.session_uuid, refused.wait_seconds
FROM login CROSS JOIN refused;
