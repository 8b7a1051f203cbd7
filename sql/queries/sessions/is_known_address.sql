-- Whether the account with this email was logged in to from this address before, or from its IPv6 network of 64 bits.
--
--   email    text  address as typed, in whatever case
--   address  text  where the request comes from; NULL (empty in psql) is never known
--
-- Locks: none.
-- psql -v email=ana@example.com -v address=192.0.2.7 -f sql/queries/sessions/is_known_address.sql
SELECT exists(
    SELECT FROM users AS u
    INNER JOIN sessions AS s ON u.id = s.user_id
    WHERE
        lower(normalize(u.email)) = lower(normalize(:'email'::text))
        AND nullif(:'address'::text, '')::inet
        -- sqlfluff's grammar lacks this operator: lies in the network, or is it.
        <<= set_masklen(s.address, CASE family(s.address) WHEN 6 THEN 64 ELSE 32 END)  -- noqa: PRS,LT02
) AS known;
