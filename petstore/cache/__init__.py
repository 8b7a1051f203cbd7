"""The read cache: in Redis, and in this process's memory. Only this package imports redis."""
