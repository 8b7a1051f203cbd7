-- The next number of a series in this UTC year: 2026-000001, or C2026-000001 for credit notes. Without gaps: a transaction that fails gives it back.
--
--   series  text  invoice or credit_note
--
-- Locks: the row of the series and year, until the transaction ends; so take it last.
-- psql -v series=invoice -f sql/queries/invoices/take_number.sql
INSERT INTO number_series AS s (series, year, last)
VALUES (:'series'::text, extract(YEAR FROM now() AT TIME ZONE 'UTC')::integer, 1)
ON CONFLICT (series, year) DO UPDATE SET last = s.last + 1
RETURNING
    CASE s.series WHEN 'credit_note' THEN 'C' ELSE '' END
    || s.year || '-' || lpad(s.last::text, greatest(6, length(s.last::text)), '0') AS number;
