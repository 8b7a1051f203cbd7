"""The environment: what counts, and what is said of what does not."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import redis
from psycopg.conninfo import conninfo_to_dict

from petstore.settings import Settings, SettingsError, load_settings

SECRET = "hunter2"


def faults(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings({f"PETSTORE_{name}": text for name, text in environ.items()})
    return str(caught.value).splitlines()


def test_an_empty_environment_gives_the_defaults_and_an_empty_variable_counts_as_unset():
    assert load_settings({}) == load_settings({"PETSTORE_POOL_SIZE": "", "PATH": "/bin"}) == Settings()
    assert Settings().listen == ("127.0.0.1", 8080)


def test_what_the_environment_says_is_taken():
    settings = load_settings({"PETSTORE_POOL_SIZE": "3", "PETSTORE_HOME": "/srv/pets", "PETSTORE_ACCESS_LOG": "off"})
    assert (settings.pool_size, settings.home, settings.access_log) == (3, Path("/srv/pets"), False)


def test_settings_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Settings().pool_size = 3  # type: ignore[misc]


def test_every_fault_is_listed_at_once_a_line_each():
    found = faults(LISTEN="8080", POOL_SIZE="0", CURRENCY="usd", THREADS="many", NONSENSE="1")
    assert sorted(line.split()[0] for line in found) == [
        "PETSTORE_CURRENCY",
        "PETSTORE_LISTEN",
        "PETSTORE_NONSENSE",
        "PETSTORE_POOL_SIZE",
        "PETSTORE_THREADS",
    ]


def test_an_unknown_name_is_a_fault_with_the_name_that_was_probably_meant():
    assert faults(DATABSE_URL="x") == ["PETSTORE_DATABSE_URL is not a setting; did you mean PETSTORE_DATABASE_URL?"]
    assert faults(QWXZ="x") == ["PETSTORE_QWXZ is not a setting"]


def test_the_variables_of_the_tests_are_known():
    assert load_settings({"PETSTORE_TEST_DATABASE_URL": "x", "PETSTORE_TEST_REDIS_URL": "x"}) == Settings()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *[
            ("LISTEN", text)
            for text in ("8080", ":8080", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:٨٠", "example.com:80", "a:b")
        ],
        *[("DATABASE_URL", text) for text in ("mysql://h/db", "h/db", "postgresql:/h/db", "host=h dbname=db")],
        *[("REDIS_URL", text) for text in ("http://h", "localhost:6379", "redis:h")],
        *[("POOL_SIZE", text) for text in ("0", "-1", "+4", "4.0", "٤", "257", " 4", "9" * 30)],
        *[("CURRENCY", text) for text in ("usd", "US", "XXX", "XAU", "EURO", "840")],
        *[("ACCESS_LOG", text) for text in ("yes", "ON", "0")],
        *[("ADMIN_EMAIL", text) for text in ("ana", "@", "a@", "a b@c", "a@b\n", "a@" + "b" * 253)],
        *[("ADMIN_PASSWORD", text) for text in ("1234567", "x" * 257, "\udcff234567890")],
        *[("ISSUER", text) for text in ("a\nb", "x" * 201)],
        *[("REFRESH_SECONDS", text) for text in ("0", "31536001", "1d")],
        *[("PASSWORD_MIN", text) for text in ("7", "129")],
        *[("RATE_LIMIT", text) for text in ("-1", "1000001", "off")],
        *[("IDEMPOTENCY_KEYS", text) for text in ("-1", "1000000001", "off")],
        *[
            ("TRUSTED_PROXIES", text)
            for text in ("proxy.example.com", "10.0.0.7/8", "10.0.0.0/33", "10.0.0.7,", "10.0.0.7 10.0.0.8", "::1/129", "*")
        ],
        *[
            ("CORS_ORIGINS", f"https://shop.example.com, {text}")
            for text in (
                "*",
                "null",
                "",
                "a.example.com",
                "https://a.example.com/",
                "https://A.example.com",
                "ftp://a.example.com",
                "https://ana@a.example.com",
                "https://a.example.com?x",
                "https://a.example.com https://b.example.com",
            )
        ],
    ],
)
def test_what_a_setting_cannot_take_is_a_fault(name, text):
    (fault,) = faults(**{name: text})
    assert fault.startswith(f"PETSTORE_{name} ")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:8080", ("::1", 8080)),
        ("localhost:0", ("127.0.0.1", 0)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
    ],
)
def test_an_address_to_listen_on(text, address):
    assert load_settings({"PETSTORE_LISTEN": text}).listen == address


def test_proxies_are_addresses_or_networks_and_origins_are_as_browsers_send_them():
    settings = load_settings(
        {
            "PETSTORE_TRUSTED_PROXIES": "10.0.0.7, 192.0.2.0/24,2001:db8::/32 , ::1",
            "PETSTORE_CORS_ORIGINS": "https://shop.example.com, http://localhost:3000,http://[::1]:8080",
        }
    )
    assert list(map(str, settings.trusted_proxies)) == ["10.0.0.7/32", "192.0.2.0/24", "2001:db8::/32", "::1/128"]
    assert settings.cors_origins == ("https://shop.example.com", "http://localhost:3000", "http://[::1]:8080")


def test_without_a_word_nobody_is_trusted_and_no_other_origin_may_call():
    assert (Settings().trusted_proxies, Settings().cors_origins) == ((), ())
    assert (Settings().token_seconds, Settings().refresh_seconds, Settings().password_min) == (15 * 60, 30 * 86_400, 8)


@pytest.mark.parametrize(("currency", "digits"), [("USD", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4)])
def test_a_currency_has_the_minor_digits_of_iso_4217(currency, digits):
    assert load_settings({"PETSTORE_CURRENCY": currency}).minor_digits == digits


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///shop",
        "postgres://ana@db.example.com/shop",
        f"postgresql://ana:{SECRET}%2F%40@db.example.com:5433/shop?sslmode=require&connect_timeout=3",
        "postgresql://ana@/shop?host=/run/postgresql",
        "postgresql://ana@[::1]:5432,db2:5433/shop?target_session_attrs=read-write",
        "postgresql://ana@%2Frun%2Fpostgresql/shop",
    ],
)
def test_a_database_url_that_is_taken_is_one_for_libpq(url):
    assert load_settings({"PETSTORE_DATABASE_URL": url}).database_url == url
    assert conninfo_to_dict(url)["dbname"] == "shop"


@pytest.mark.parametrize(
    "url",
    ["redis://h", f"redis://:{SECRET}@h:6380/3", "rediss://ana:x%20y@h/0", "unix:///run/redis.sock?db=2", "redis://[::1]:6379"],
)
def test_a_redis_url_that_is_taken_is_one_for_redis(url):
    assert load_settings({"PETSTORE_REDIS_URL": url}).redis_url == url
    redis.Redis.from_url(url).close()


@pytest.mark.parametrize(
    "url", ["redis://a:1,b:2", "redis://a,b", f"redis://:{SECRET}@a:1,b:2/3", "rediss://a,b:2/0", "redis://[::1]:1,[::2]:2"]
)
def test_a_redis_url_names_one_host_or_is_told_what_several_would_need(url):
    (fault,) = faults(REDIS_URL=url)
    assert "must name one host" in fault
    assert "HAProxy" in fault
    assert SECRET not in fault


def test_a_comma_in_the_password_of_redis_is_no_second_host():
    assert load_settings({"PETSTORE_REDIS_URL": "redis://:one,two@h"}).redis_url == "redis://:one,two@h"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}#x@h:6379",
        f"redis://:{SECRET}/x@h:6379",
        f"redis://:{SECRET}@h:port",
        f"postgresql://ana:{SECRET}@h:port/shop",
        f"postgresql://ana:{SECRET}%zz@h/shop",
        f"postgresql://ana:{SECRET}%00@h/shop",
        f"postgresql://ana:{SECRET}/x@h/shop",
        f"postgresql://ana:{SECRET}@x@h/shop",
        f"postgresql://ana:{SECRET}@[::1/shop",
        f"postgresql://ana:{SECRET}@[::1]x/shop",
        f"postgresql://ana@h/shop?{SECRET}",
        f"postgresql://ana:{SECRET} @h/shop",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_repeating_its_password(url):
    name = "REDIS_URL" if url.startswith("redis") else "DATABASE_URL"
    (fault,) = faults(**{name: url})
    assert "is not a URL" in fault
    assert SECRET not in fault


def test_a_password_that_is_too_short_is_not_repeated():
    assert SECRET not in "".join(faults(ADMIN_PASSWORD=SECRET))


def test_a_password_among_the_options_of_a_url_is_refused_without_repeating_it():
    (fault,) = faults(DATABASE_URL=f"postgresql://ana@h/shop?sslmode=require&password={SECRET}")
    assert "before the @" in fault
    assert SECRET not in fault
