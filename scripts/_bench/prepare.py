"""Prepares a seeded shop for the bench: enough stock, and logins. Each revision runs its own, with its own code.

Prints access tokens, one per line. Settings come from the environment.
"""

from petstore import db
from petstore.auth.signing_keys import Keyring
from petstore.auth.tokens import LONGEST_SECONDS, Caller, Tokens
from petstore.settings import load_settings

USERS = 600  # the first half reads, the other half buys
_LOGIN = """
    INSERT INTO sessions (user_id, token_version, expires_at)
    SELECT id, token_version, now() + interval '30 days' FROM users ORDER BY id LIMIT %s
    RETURNING user_id, id, token_version
"""


def main() -> None:
    """Prepare the shop that PETSTORE_OWNER_URL names."""
    settings = load_settings()
    keys = Keyring(settings.keys)
    tokens = Tokens(keys, issuer=settings.issuer, audience=settings.audience, seconds=LONGEST_SECONDS)
    with db.connect(settings.owner_url or "") as conn:
        conn.execute("UPDATE products SET stock = 1000000")
        logins = conn.execute(_LOGIN, (USERS,)).fetchall()
        conn.execute("VACUUM (ANALYZE) products, sessions")  # seeding has done so for the other tables
    for user_id, session_id, token_version in logins:
        print(tokens.issue(Caller(user_id, "user", session_id, token_version)))


if __name__ == "__main__":
    main()
