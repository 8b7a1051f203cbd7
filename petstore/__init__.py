"""A pet shop's backend: an HTTP API over PostgreSQL for accounts, catalogue, purchases, invoices and stock."""

__version__ = "0.2.0"
