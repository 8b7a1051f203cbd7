"""What `petstore serve --setup` makes if it is missing: schema, signing key, demo catalogue; and the commands to try first."""

from __future__ import annotations

import secrets
from functools import partial

from petstore import db, errors, signals
from petstore.auth import key_rotation, passwords, signing_keys
from petstore.cache.prefixes import PRODUCTS
from petstore.cli import seeding
from petstore.cli.output import report
from petstore.db import schema
from petstore.repository import products, users
from petstore.services import Services
from petstore.settings import Settings


def make_schema(settings: Settings, *, migrate: bool = False) -> None:
    """Make roles and schema if they are missing and PETSTORE_OWNER_URL is known. A database that is down is only reported.

    migrate: bring an older schema to the newest version.
    """
    url = settings.owner_url
    if url is None:
        return
    try:
        if schema.create_schema(url, currency=settings.currency, minor_digits=settings.minor_digits, report=report):
            report(f"schema made, amounts in {settings.currency}")
        elif migrate and (done := schema.migrate(url, report=report)):
            report(f"schema version {done[-1].version} reached, with all data")
    except db.Error as error:
        if error.sqlstate is not None:
            raise
        report(f"cannot check whether the schema exists: {str(error).strip()}")


def make_key(settings: Settings) -> None:
    """Make the signing key if there is none, and let no other user enter its folder."""
    if not (settings.keys / signing_keys.KEY_FILE).exists():
        report(f"new signing key: {key_rotation.generate_key(settings.keys)}")
    key_rotation.close_folder(settings.keys)


def seed_if_empty(services: Services, asked: bool) -> None:
    """Add the demo catalogue and an admin to an empty database. asked: say so when it is not empty.

    The admin's password is printed unless PETSTORE_ADMIN_PASSWORD sets it.
    """
    settings = services.settings
    with db.connect(settings.owner_url or settings.database_url or "") as conn, signals.deferred():
        with conn.transaction():
            seeding.lock(conn)  # when two services start at once, one seeds
            if not seeding.is_empty(conn):
                if asked:
                    report("the database is not empty, so no demo catalogue is added (`petstore seed` adds it)")
                return
            count = seeding.seed_demo(conn, settings.minor_digits)
            password = settings.admin_password or secrets.token_urlsafe(12)
            users.save_admin(conn, email=settings.admin_email, password=passwords.hash_password(password))
        services.cache.invalidate(PRODUCTS)
        report(f"added {count} demo products and the admin {settings.admin_email}")
        if settings.admin_password is None:
            report(f"the admin's password, shown this once: {password}")


def first_steps(services: Services, url: str) -> str:
    """Three curl commands to paste: list products, register, and buy (or read the profile, if nothing is on sale).

    Empty when the database is down.
    """
    try:
        on_sale = services.db.read(partial(products.list_products, after=0, limit=100))
    except errors.Problem:
        return ""
    product_id = next((product.id for product in on_sale if product.stock > 1), None)
    email, password = f"ana-{secrets.token_hex(3)}@example.com", secrets.token_urlsafe(9)
    body = f'{{"email":"{email}","password":"{password}"}}'
    json = "-H 'Content-Type: application/json'"
    login = f"""curl -s {url}/login {json} -d '{body}' | sed 's/.*"access_token":"\\([^"]*\\).*/\\1/'"""
    token = f'-H "Authorization: Bearer $({login})"'
    purchase = f"""{url}/purchase_product {json} {token} -d '{{"products":[{{"product_id":{product_id},"quantity":2}}]}}'"""
    return (
        "\nTry it:\n\n"
        f"curl -s '{url}/products?limit=3'\n"
        f"curl -s {url}/register {json} -d '{body}'\n"
        f"curl -s {purchase if product_id else f'{url}/me {token}'}\n"
    )
