"""Rows of any age, of the kinds that housekeeping deletes when they have expired."""

from __future__ import annotations

from tests.factories import Factory

LIMITS = {  # hours that each kind is kept
    "idempotency keys": 24,
    "refresh tokens": 30 * 24,
    "logins": 30 * 24,
    "addresses": 90 * 24,
}
_MAKE = {
    "idempotency keys": """
        INSERT INTO idempotency_keys (user_id, route, key, fingerprint, status, body, created_at)
        SELECT %(user)s, 'POST /purchase_product', gen_random_uuid(), sha256(''), 201, '', %(at)s FROM numbers""",
    "refresh tokens": """
        INSERT INTO refresh_tokens (token_hash, session_id, created_at, used_at)
        SELECT sha256(gen_random_uuid()::text::bytea), (SELECT min(id) FROM sessions), %(at)s, %(at)s FROM numbers""",
    "logins": """
        INSERT INTO sessions (user_id, token_version, created_at, expires_at)
        SELECT %(user)s, 1, %(at)s - interval '30 days', %(at)s FROM numbers""",
    "addresses": """
        , entries AS (INSERT INTO audit_log (action, subject_id, fields) SELECT 'user.update', 1, '{}' FROM numbers RETURNING id)
        INSERT INTO audit_addresses (audit_id, created_at, address) SELECT id, %(at)s, '192.0.2.7' FROM entries""",
}
_LEFT = {
    "idempotency keys": "SELECT now() - created_at FROM idempotency_keys",
    "refresh tokens": "SELECT now() - used_at FROM refresh_tokens WHERE used_at IS NOT NULL",
    "logins": "SELECT now() - expires_at FROM sessions WHERE expires_at < now()",
    "addresses": "SELECT now() - created_at FROM audit_addresses",
}


def age(make: Factory, user_id: int, kind: str, hours: float, count: int = 1) -> None:
    """Rows of a kind which had been kept so long: since they were made, or used, or had expired. The user is logged in."""
    at = make.scalar("SELECT now() - %s * interval '1 hour'", hours)
    numbers = "WITH numbers AS MATERIALIZED (SELECT FROM generate_series(1, %(count)s))"
    make.conn.execute(numbers + _MAKE[kind], {"user": user_id, "at": at, "count": count})


def left(make: Factory, kind: str) -> list[int]:
    """How many whole hours each row of a kind has been kept, in order."""
    return sorted(int(kept.total_seconds() // 3600) for (kept,) in make.rows(_LEFT[kind]))
