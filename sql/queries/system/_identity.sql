-- What this database is, as text: <instance_id>/<oid of the database>@<file of the table shop>/<timeline>/<start of the server>.
--
-- Before the @: what no other database on this server has, nor a database of another shop. After it: what changes when the data
-- may have gone back, or elsewhere: the file with a restored dump, the timeline with a promotion or a point-in-time recovery, the
-- start with a server that took over an older copy or snapshot of the files. A standby has no timeline of its own yet.
\set database_identity 'instance_id || $$/$$ || split_part(pg_relation_filepath(tableoid), $$/$$, -2)'
\set database_identity :database_identity ' || $$@$$ || split_part(pg_relation_filepath(tableoid), $$/$$, -1) || $$/$$ || '
\set database_identity :database_identity 'CASE WHEN pg_is_in_recovery() THEN $$standby$$ ELSE '
\set database_identity :database_identity 'substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END'
\set database_identity :database_identity ' || $$/$$ || extract(epoch FROM pg_postmaster_start_time())'
