"""One function per file of sql/queries, with the same name. It takes a connection, returns dataclasses, and never commits."""
