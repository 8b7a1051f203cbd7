import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from petstore import tokens
from petstore.errors import Unauthorized
from petstore.tokens import KeyFault, Tokens, User, generate_key, load_key, thumbprint


@pytest.fixture(scope="module")
def key(keys):
    return load_key(keys)


@pytest.fixture(scope="module")
def issuer(key):
    return Tokens(key, issuer="petstore", audience="petstore", seconds=900)


@pytest.fixture
def claims(issuer):
    return jwt.decode(issuer.issue(User(7, "user")), options={"verify_signature": False})


def sign(key, claims, **header):
    """A token with any claims and header: what is None is left out."""
    whole = {"alg": "RS256", "typ": "at+jwt", "kid": thumbprint(key.public_key())} | header
    signed = f"{b64(json.dumps({k: v for k, v in whole.items() if v is not None}).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{signed}.{b64(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_token_says_who_from_whom_for_whom_and_for_how_long(issuer, key):
    token = issuer.issue(User(7, "admin"))
    header = jwt.get_unverified_header(token)
    assert header == {"alg": "RS256", "typ": "at+jwt", "kid": thumbprint(key.public_key())}
    claims = jwt.decode(token, key.public_key(), algorithms=["RS256"], audience="petstore")
    assert set(claims) == {"iss", "sub", "aud", "iat", "exp", "jti", "role"}
    assert (claims["iss"], claims["sub"], claims["aud"], claims["role"]) == ("petstore", "7", "petstore", "admin")
    assert claims["exp"] - claims["iat"] == 900
    assert abs(claims["iat"] - time.time()) < 5
    assert issuer.verify(token) == User(7, "admin")


def test_two_tokens_are_never_the_same(issuer):
    assert issuer.issue(User(7, "user")) != issuer.issue(User(7, "user"))


@pytest.mark.parametrize(
    "change",
    [
        {"exp": 1},
        {"exp": int(time.time()) - 1},
        {"exp": "soon"},
        {"exp": 1e400},
        {"exp": float("nan")},
        {"exp": None},
        {"iat": int(time.time()) + 3600},
        {"iat": "now"},
        {"nbf": int(time.time()) + 3600},
        {"iss": "somebody"},
        {"iss": ["petstore"]},
        {"iss": None},
        {"aud": "somebody"},
        {"aud": ["petstore", "somebody"]},
        {"aud": ["petstore"]},
        {"aud": None},
        {"sub": 7},
        {"sub": "x"},
        {"sub": "-7"},
        {"sub": "٧"},
        {"sub": None},
        {"jti": None},
        {"role": None},
    ],
    ids=str,
)
def test_a_token_with_wrong_or_missing_claims_is_refused(issuer, key, claims, change):
    changed = {name: value for name, value in (claims | change).items() if value is not None}
    with pytest.raises(Unauthorized):
        issuer.verify(sign(key, changed))
    assert issuer.verify(sign(key, claims)) == User(7, "user")


@pytest.mark.parametrize(
    "header", [{"typ": "JWT"}, {"typ": None}, {"kid": "../private"}, {"kid": None}, {"crit": ["x"]}], ids=str
)
def test_another_kind_of_token_or_key_is_refused(issuer, key, claims, header):
    with pytest.raises(Unauthorized):
        issuer.verify(sign(key, claims, **header))


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_only_rs256_is_accepted(issuer, key, claims, algorithm):
    with pytest.raises(Unauthorized):
        issuer.verify(jwt.encode(claims, key, algorithm, {"typ": "at+jwt", "kid": thumbprint(key.public_key())}))


def test_tokens_without_signature_or_signed_with_the_public_key_are_refused(issuer, key, claims):
    pem = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for alg, secret in (("none", None), ("None", None), ("HS256", pem)):
        header = {"alg": alg, "typ": "at+jwt", "kid": thumbprint(key.public_key())}
        signed = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
        signature = hmac.new(secret, signed.encode(), hashlib.sha256).digest() if secret else b""
        with pytest.raises(Unauthorized):
            issuer.verify(f"{signed}.{b64(signature)}")


def test_a_token_of_another_key_or_one_that_was_touched_is_refused(issuer, key, claims):
    other = rsa.generate_private_key(65537, 2048)
    good = sign(key, claims)
    header, payload, signature = good.split(".")
    forged = sign(other, claims, kid=thumbprint(key.public_key()))
    touched = f"{header}.{b64(json.dumps(claims | {'role': 'admin'}).encode())}.{signature}"
    for token in (forged, touched, good[:-3], good + "=", f"{header}.{payload}.", good + ".x", "", ".", "..", "é", "x" * 20_000):
        with pytest.raises(Unauthorized):
            issuer.verify(token)


def test_an_expired_token_is_told_so(anyone, key, claims):
    answer = anyone.get("/me", headers={"Authorization": f"Bearer {sign(key, claims | {'exp': 1})}"})
    assert answer.status == 401
    assert "expired" in answer.json()["detail"]
    assert answer["WWW-Authenticate"] == 'Bearer realm="petstore", error="invalid_token"'


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer a b", "Bearer a, Bearer b", "x" * 10_000, "Bearer é"]
)
def test_an_authorization_header_that_is_no_bearer_token_is_401(anyone, header):
    answer = anyone.get("/me", headers={"Authorization": header.encode("utf-8").decode("latin-1")})
    assert answer.status == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_the_scheme_is_read_in_any_case_and_a_token_in_the_query_is_not(buyer):
    token = buyer.token
    assert buyer.get("/me", headers={"Authorization": f"bEARER   {token}"}).status == 200
    buyer.token = None
    assert buyer.get(f"/me?access_token={token}").status == 401


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_key_is_2048_bits_for_its_owner_only_and_never_written_over(tmp_path):
    path = generate_key(tmp_path / "new" / "keys")
    assert path.name == "private.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path.parent).key_size == 2048
    before = path.read_bytes()
    with pytest.raises(KeyFault, match="exists already"):
        generate_key(path.parent)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["private.pem"]


def write(folder, pem):
    path = folder / tokens.KEY_FILE
    path.write_bytes(pem)
    path.chmod(0o600)


def pem_of(key, encryption=None):
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption or serialization.NoEncryption()
    )


def test_a_key_that_cannot_be_used_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(KeyFault, match="generate_keys"):
        load_key(tmp_path)
    strong = rsa.generate_private_key(65537, 2048)
    for pem, said in [
        (b"", "PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nxx\n-----END PRIVATE KEY-----\n", "PEM"),
        (pem_of(strong, serialization.BestAvailableEncryption(b"x")), "unencrypted"),
        (pem_of(ec.generate_private_key(ec.SECP256R1())), "RSA"),
        (pem_of(rsa.generate_private_key(65537, 1024)), "2048"),
    ]:
        write(tmp_path, pem)
        with pytest.raises(KeyFault, match=said):
            load_key(tmp_path)
    write(tmp_path, pem_of(strong))
    assert load_key(tmp_path).key_size == 2048
    (tmp_path / tokens.KEY_FILE).chmod(0o604)
    with pytest.raises(KeyFault, match="chmod 600"):
        load_key(tmp_path)


def test_a_key_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / tokens.KEY_FILE).mkdir(mode=0o700)
    with pytest.raises(KeyFault, match="cannot be read"):
        load_key(tmp_path)


def test_the_thumbprint_is_that_of_the_rfc():
    """RFC 7638, 3.1."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMs"
        "tn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5h"
        "ajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    public = jwt.algorithms.RSAAlgorithm.from_jwk({"kty": "RSA", "n": modulus, "e": "AQAB"})
    assert thumbprint(public) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
