-- Whether there is a stored session of the account with this email from this IPv4 address, or from the same IPv6 /64 network.
--
--   email    text  address as typed; compared without regard to case
--   address  text  client address; NULL (empty in psql) is never known
--
-- Locks: none.
-- psql -v email=ana@example.com -v address=192.0.2.7 -f sql/queries/sessions/is_known_address.sql
SELECT exists(
    SELECT FROM users AS u
    INNER JOIN sessions AS s ON u.id = s.user_id
    WHERE
        lower(normalize(u.email)) = lower(normalize(:'email'::text))
        AND nullif(:'address'::text, '')::inet
        -- <<= (is contained in or equals) is not in the grammar of sqlfluff.
        <<= set_masklen(s.address, CASE family(s.address) WHEN 6 THEN 64 ELSE 32 END)  -- noqa: PRS,LT02
) AS known;
