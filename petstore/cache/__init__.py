"""The read cache. Only this package imports redis.

The way of a read: decorator (`@cached`), redis_cache (the protocol), redis_connection (pool, keys, commands), lua/ (scripts).
Beside it: writing (what a transaction tells the cache), circuit_breaker (for a Redis that is down), single_flight (no stampede),
local and shared_generations (hits kept in a process's own memory), document and prefixes (what is cached, and under which names).
"""
