"""One function per file of sql/queries, of the same name; rows as dataclasses. Functions take a connection and never commit."""
