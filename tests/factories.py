"""Arranges rows by SQL, as the owner of the schema."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from petstore.auth.passwords import hash_password
from petstore.repository.users import User
from petstore.routes.products import COLUMNS

PASSWORD = "correct horse battery"
_PHC = hash_password(PASSWORD)


@dataclass(frozen=True)
class Person(User):
    """A user with a login: what a token can be issued for."""

    session_id: int
    session_uuid: str
    token_version: int = 1


def product_columns(**given: Any) -> dict[str, Any]:
    """All that a query may set of a product; None where nothing is given."""
    return {**dict.fromkeys(COLUMNS), **given}


@dataclass
class Factory:
    """Makes rows through one connection."""

    conn: Any
    made: int = 0

    def user(self, email: str | None = None, role: str = "user", password: str = _PHC) -> Person:
        """A user whose password is PASSWORD, logged in."""
        self.made += 1
        row = self.conn.execute(
            "WITH u AS (INSERT INTO users (email, password, role) VALUES (%s, %s, %s) RETURNING id, email, role, created_at),"
            " s AS (INSERT INTO sessions (user_id, token_version, expires_at) SELECT id, 1, now() + '30 days' FROM u"
            " RETURNING id, to_jsonb(sessions) ->> 'session_uuid' AS session_uuid)"
            " SELECT u.*, s.id, s.session_uuid FROM u, s",
            (email or f"user{self.made}@example.com", password, role),
        ).fetchone()
        return Person(*row)

    def product(self, name: str | None = None, price: str = "12.50", stock: int = 10, deleted: bool = False) -> int:
        """A product; its id."""
        self.made += 1
        row = self.conn.execute(
            "INSERT INTO products (name, price, stock, deleted_at) VALUES (%s, %s, %s, CASE WHEN %s THEN now() END) RETURNING id",
            (name or f"Product {self.made}", Decimal(price), stock, deleted),
        ).fetchone()
        return int(row[0])

    def product_json(self, product_id: int) -> dict[str, Any]:
        """A product as the API has to show it: its row, with the shop's currency."""
        cursor = self.conn.execute("SELECT p.*, s.currency FROM products AS p, shop AS s WHERE p.id = %s", (product_id,))
        row = dict(zip((column.name for column in cursor.description), cursor.fetchone(), strict=True))
        del row["deleted_at"]
        return {name: _shown(value) for name, value in row.items()}

    def invoice(self, user_id: int, lines: dict[int, int] | None = None, status: str = "pending") -> int:
        """An invoice with pieces by product, at today's names and prices; its id. Stock is left alone."""
        self.made += 1
        number = None if status in ("pending", "cancelled") else f"2000-{self.made:06}"
        with self.conn.transaction():
            invoice_id = self.scalar(
                "INSERT INTO invoices (user_id, status, number, total) SELECT %s, %s, %s, coalesce(sum(price * quantity), 0)"
                " FROM unnest(%s::bigint[], %s::int[]) AS w (id, quantity) JOIN products USING (id) RETURNING id",
                *(user_id, status, number, list((lines or {}).keys()), list((lines or {}).values())),
            )
            self.conn.execute(
                "INSERT INTO invoice_details (invoice_id, product_id, name, unit_price, quantity)"
                " SELECT %s, id, name, price, quantity"
                " FROM unnest(%s::bigint[], %s::int[]) AS w (id, quantity) JOIN products USING (id)",
                (invoice_id, list((lines or {}).keys()), list((lines or {}).values())),
            )
        return int(invoice_id)

    def scalar(self, sql: str, *parameters: Any) -> Any:
        """The first column of the first row."""
        return self.conn.execute(sql, parameters).fetchone()[0]

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Every row."""
        return self.conn.execute(sql, parameters).fetchall()

    def stock(self, product_id: int) -> int:
        """Pieces in stock now."""
        return int(self.scalar("SELECT stock FROM products WHERE id = %s", product_id))


def _shown(value: Any) -> Any:
    """A column as JSON shows it, in a shop in USD."""
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return f"{value:.2f}" if isinstance(value, Decimal) else value
