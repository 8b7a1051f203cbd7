"""The settings of the service, read from environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, TypeAlias

import iso4217

from petstore.cache.redis_url import redis_url_fault
from petstore.emails import parse_email

Network: TypeAlias = IPv4Network | IPv6Network
MIN_PASSWORD, MAX_PASSWORD = 8, 256  # characters


def networks(text: str) -> tuple[Network, ...]:
    """Parse addresses and networks, such as `10.0.0.7, 2001:db8::/32`; ValueError when one is neither."""
    return tuple(ip_network(part.strip()) for part in text.split(","))


class SettingsError(Exception):
    """The environment is wrong. The text has every fault, one per line."""


def _listen(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = {"localhost": "127.0.0.1"}.get(host, host.removeprefix("[").removesuffix("]"))
    try:
        ip_address(host)
        if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
            raise ValueError
    except ValueError:
        raise ValueError("must be ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080") from None
    return host, int(port)


# A malformed URL is refused here, because the messages of the libraries would repeat it with its password.
_AUTHORITY = r"([^@/?#\s]*@)?{host}(,{host})*".format(host=r"([^@/?#\s\[\],:]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?")
_URL = re.compile(r"[a-z]+://" + _AUTHORITY + r"(/[^?#\s]*)?(\?[^?#\s&=]+=[^?#\s&=]*(&[^?#\s&=]+=[^?#\s&=]*)*)?")


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not text.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"must begin with {' or '.join(scheme + '://' for scheme in schemes)}")
        if re.search("[?&]password=", text):
            raise ValueError(
                "must have its password before the @, not among the options, where a list of processes would show it"
            )
        if not _URL.fullmatch(text) or re.search("%(?![0-9A-Fa-f]{2})|%00", text):
            raise ValueError("is not a URL; in a name or password, write %40 for @, %2F for /, and so on for : ? # % and space")
        return text

    return parse


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


parse_workers = _number(1, 64)  # of PETSTORE_WORKERS and of --workers


def _switch(text: str) -> bool:
    if text not in ("on", "off"):
        raise ValueError("must be on or off")
    return text == "on"


def _currency(text: str) -> str:
    try:
        exponent = iso4217.Currency(text).exponent
    except ValueError:
        exponent = None
    if exponent is None:
        raise ValueError("must be the ISO 4217 code of a currency, such as USD, EUR or JPY")
    return text


def _name(text: str) -> str:
    if not text.isprintable() or len(text) > 200:
        raise ValueError("must be printable and at most 200 characters")
    return text


def _one_of(*known: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in known:
            raise ValueError(f"must be {' or '.join(known)}")
        return text

    return parse


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return networks(text)
    except ValueError:
        raise ValueError("must list addresses or networks, such as 10.0.0.7, 2001:db8::/32 (with no bits beyond the /)") from None


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(part.strip() for part in text.split(","))
    for origin in origins:
        if not re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", origin):
            raise ValueError("must list origins as browsers send them, such as https://shop.example.com, http://localhost:3000")
    return origins


def _password(text: str) -> str:
    if not MIN_PASSWORD <= len(text) <= MAX_PASSWORD or re.search("[\ud800-\udfff]", text):
        raise ValueError(f"must have {MIN_PASSWORD} to {MAX_PASSWORD} characters, in UTF-8")
    return text


def _setting(default: Any, parse: Callable[[str], Any], meaning: str) -> Any:
    return field(default=default, metadata={"parse": parse, "meaning": meaning})


def _redis_url(text: str) -> str:
    _url("redis", "rediss", "unix")(text)
    if fault := redis_url_fault(text):
        raise ValueError(fault)
    return text


_postgres_url = _url("postgresql", "postgres")


@dataclass(frozen=True)
class Settings:
    """The parsed environment. The field `pool_size` is the variable `PETSTORE_POOL_SIZE`, and so on.

    Each `meaning` is a line of the table of settings in the documentation.
    """

    listen: tuple[str, int] = _setting(("127.0.0.1", 8080), _listen, "address and port that the service listens on")
    database_url: str | None = _setting(
        None, _postgres_url, "URL of the PostgreSQL database, as petstore_app; unset: an embedded server in PETSTORE_HOME"
    )
    owner_url: str | None = _setting(
        None, _postgres_url, "the same database, as petstore_owner or a superuser: to migrate the schema and to load test data"
    )
    report_url: str | None = _setting(
        None, _postgres_url, "the same database, as petstore_report: for reports in psql and scripts/sql; unset: as petstore_app"
    )
    redis_url: str | None = _setting(None, _redis_url, "URL of Redis, for the cache; unset: an embedded server, or no cache")
    cache_scope: str = _setting(
        "machines",
        _one_of("machines", "machine"),
        "`machines`: the service runs on several machines; `machine`: on this one only, so that cached reads need not ask Redis",
    )
    home: Path = _setting(
        Path("var"), Path, "folder of the embedded servers' data directories, and of a file that the workers of one machine share"
    )
    keys: Path = _setting(
        Path("keys"), Path, "folder of the keys of tokens: private.pem, refresh.pem, and others during a rotation"
    )
    currency: str = _setting(
        "USD", _currency, "ISO 4217 code of the shop's currency; it is fixed when the schema is made, and checked at start"
    )
    issuer: str = _setting("petstore", _name, "claim `iss` of the tokens")
    audience: str = _setting("petstore", _name, "claim `aud` of the tokens")
    token_seconds: int = _setting(900, _number(1, 86_400), "life of an access token, in seconds")
    refresh_seconds: int = _setting(2_592_000, _number(1, 31_536_000), "life of a refresh token, in seconds")
    password_min: int = _setting(MIN_PASSWORD, _number(MIN_PASSWORD, 128), "characters that a new password must have at least")
    trusted_proxies: tuple[Network, ...] = _setting(
        (),
        _networks,
        "addresses or networks of the proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted, separated by commas",
    )
    cors_origins: tuple[str, ...] = _setting((), _origins, "origins whose pages may call the API (CORS), separated by commas")
    rate_limit: int = _setting(
        2000,
        _number(0, 1_000_000),
        "requests a second of one address or user, in each worker; bursts of ten seconds' worth are let through; 0: no limit",
    )
    idempotency_keys: int = _setting(
        10_000, _number(0, 1_000_000_000), "Idempotency-Keys that one account can have, each for 24 hours; 0: no limit"
    )
    workers: int | None = _setting(None, parse_workers, "worker processes, which share one socket; unset: one per core")
    threads: int = _setting(4, _number(1, 256), "requests that read, and as many that write, at the same time in each worker")
    pool_size: int = _setting(6, _number(1, 256), "database connections of each worker, at most; a third is for reads only")
    connections: int = _setting(1000, _number(16, 20_000), "open client connections of each worker, at most")
    read_seconds: int = _setting(
        10, _number(1, 600), "seconds in which a client has to send a whole request, or to read 10 kB of a response or its rest"
    )
    keep_alive_seconds: int = _setting(75, _number(1, 3600), "seconds without a request after which a connection is closed")
    drain_seconds: int = _setting(
        0, _number(0, 3600), "seconds after SIGTERM in which all is still served, and /readyz says that the service stops"
    )
    access_log: bool = _setting(True, _switch, "one line per request on standard error: on or off")
    admin_email: str = _setting("admin@petstore.example", parse_email, "email of the admin that is made with the demo catalogue")
    admin_password: str | None = _setting(
        None, _password, f"that admin's password, {MIN_PASSWORD} to {MAX_PASSWORD} characters; unset: a random one, printed once"
    )

    @cached_property
    def minor_digits(self) -> int:
        """Digits after the decimal point in the shop's currency (ISO 4217)."""
        return int(iso4217.Currency(self.currency).exponent or 0)


def variable(name: str) -> str:
    """The environment variable of a field of Settings."""
    return "PETSTORE_" + name.upper()


# Read by the tests, not by the service. By name, with their meaning.
OTHER_VARIABLES = {
    "PETSTORE_TEST_DATABASE_URL": (
        "for `scripts/test`: a superuser's URL of a database with `_test` in its name; unset: a throwaway server"
    ),
    "PETSTORE_TEST_REDIS_URL": "for `scripts/test`: a Redis it may write to; unset: a throwaway server",
}


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Parse the environment; SettingsError with all faults. An empty variable counts as unset."""
    known = {variable(f.name): f for f in fields(Settings)}
    values: dict[str, Any] = {}
    faults = []
    for name, text in sorted(environ.items()):
        if not name.startswith("PETSTORE_") or not text:
            continue
        if name in known:
            try:
                values[known[name].name] = known[name].metadata["parse"](text)
            except ValueError as error:
                faults.append(f"{name} {error}")
        elif name not in OTHER_VARIABLES:
            near = get_close_matches(name.removeprefix("PETSTORE_"), [f.name.upper() for f in fields(Settings)], n=1)
            faults.append(f"{name} is not a setting" + (f"; did you mean PETSTORE_{near[0]}?" if near else ""))
    if faults:
        raise SettingsError("\n".join(faults))
    return Settings(**values)
