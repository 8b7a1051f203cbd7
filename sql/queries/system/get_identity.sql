-- What this database is, as text: a database, a server and a timeline with the same text never differ. See _identity.sql.
--
-- Runs with each read of the service, in one round trip.
--
-- Parameters: none.
-- Locks: none.
-- psql -f sql/queries/system/get_identity.sql
\ir _identity.sql
SELECT :database_identity AS identity
FROM shop;
