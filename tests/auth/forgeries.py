"""Every forgery of an access token that we could think of."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from petstore.auth.signing_keys import KEY_FILE, thumbprint
from petstore.auth.tokens import Caller

SOMEBODY = Caller(id=7, role="user", session_id=3, token_version=1)
UUID = "6f1c1ed5-9c5d-4e0e-8f6c-0d9e0a3f3b11"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def to_bytes(value: Any) -> bytes:
    """JSON of a dictionary, without what is None; bytes stay what they are."""
    if isinstance(value, bytes):
        return value
    return json.dumps({name: member for name, member in value.items() if member is not None}).encode()


@dataclass(frozen=True)
class Good:
    """A good token, and what a forger could at the very worst have: its key. thief: a key of his own; url: his server."""

    token: str
    key: rsa.RSAPrivateKey
    thief: rsa.RSAPrivateKey
    folder: str
    url: str

    @property
    def header(self) -> dict[str, Any]:
        return jwt.get_unverified_header(self.token)

    @property
    def claims(self) -> dict[str, Any]:
        return jwt.decode(self.token, options={"verify_signature": False})

    @property
    def parts(self) -> list[str]:
        return self.token.split(".")

    def signed(self, header: Any = None, claims: Any = None, key: rsa.RSAPrivateKey | None = None) -> str:
        """A token with changes of header and claims (None: left out), or with these very bytes; correctly signed, by our key."""
        header = header if isinstance(header, bytes) else self.header | (header or {})
        claims = claims if isinstance(claims, bytes) else self.claims | (claims or {})
        text = f"{b64(to_bytes(header))}.{b64(to_bytes(claims))}"
        return f"{text}.{b64((key or self.key).sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def with_claim(self, **claims: Any) -> str:
        return self.signed(claims=claims)

    def with_header(self, **header: Any) -> str:
        return self.signed(header)

    def with_algorithm(self, algorithm: Any, sign: Callable[[bytes], bytes]) -> str:
        text = f"{b64(to_bytes(self.header | {'alg': algorithm}))}.{self.parts[1]}"
        return f"{text}.{b64(sign(text.encode()))}"

    def public(self, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo, encoding: Encoding = Encoding.PEM) -> bytes:
        return self.key.public_key().public_bytes(encoding, form)

    def thiefs_jwk(self) -> dict[str, Any]:
        jwk = jwt.algorithms.RSAAlgorithm.to_jwk(self.thief.public_key(), as_dict=True)
        return {**jwk, "kid": self.header["kid"], "use": "sig", "alg": "RS256"}

    def with_signature(self, change: Callable[[str], str]) -> str:
        header, payload, signature = self.parts
        return f"{header}.{payload}.{change(signature)}"


FAR = 10**30
NESTED = b'{"x":' + b"[" * 1200 + b"]" * 1200 + b"}"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def last_bits(signature: str) -> str:
    """The same 256 bytes, written in another way: the last character has four bits that no byte needs."""
    return signature[:-1] + ALPHABET[ALPHABET.index(signature[-1]) ^ 1]


def mac(secret: bytes, function: Any = hashlib.sha256) -> Callable[[bytes], bytes]:
    return lambda text: hmac.new(secret, text, function).digest()


def rsa_sign(good: Good, scheme: Any, function: Any) -> Callable[[bytes], bytes]:
    return lambda text: good.key.sign(text, scheme, function)


def _empty_file(good: Good) -> str:
    """Where a key is read from the file that kid names, one with nothing in it makes a secret that everybody knows."""
    text = f"{b64(to_bytes(good.header | {'kid': '/dev/null', 'alg': 'HS256'}))}.{good.parts[1]}"
    return f"{text}.{b64(mac(b'')(text.encode()))}"


ALGORITHMS: dict[str, Callable[[Good], str]] = {
    **{
        f"alg {name}": lambda good, name=name: good.with_algorithm(name, lambda _: b"")
        for name in ("none", "None", "NONE", "nOnE")
    },
    "alg none with the old signature": lambda good: good.with_algorithm(
        "none", lambda _: good.key.sign(b"", padding.PKCS1v15(), hashes.SHA256())
    ),
    "HS256 with the public key": lambda good: good.with_algorithm("HS256", mac(good.public())),
    "HS256 with the public key, no line feed": lambda good: good.with_algorithm("HS256", mac(good.public().strip())),
    "HS256 with the public key, PKCS 1": lambda good: good.with_algorithm("HS256", mac(good.public(PublicFormat.PKCS1))),
    "HS256 with the public key, DER": lambda good: good.with_algorithm("HS256", mac(good.public(encoding=Encoding.DER))),
    "HS256 with nothing": lambda good: good.with_algorithm("HS256", mac(b"")),
    "HS384 with the public key": lambda good: good.with_algorithm("HS384", mac(good.public(), hashlib.sha384)),
    "HS512 with the public key": lambda good: good.with_algorithm("HS512", mac(good.public(), hashlib.sha512)),
    "RS384": lambda good: good.with_algorithm("RS384", rsa_sign(good, padding.PKCS1v15(), hashes.SHA384())),
    "RS512": lambda good: good.with_algorithm("RS512", rsa_sign(good, padding.PKCS1v15(), hashes.SHA512())),
    "PS256": lambda good: good.with_algorithm(
        "PS256", rsa_sign(good, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    ),
    "RS256 that is PS256": lambda good: good.with_algorithm(
        "RS256", rsa_sign(good, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    ),
    "ES256": lambda good: good.with_algorithm(
        "ES256", lambda text: ec.generate_private_key(ec.SECP256R1()).sign(text, ec.ECDSA(hashes.SHA256()))[-64:]
    ),
    "alg in lower case": lambda good: good.with_header(alg="rs256"),
    "alg missing": lambda good: good.with_header(alg=None),
    "alg a list": lambda good: good.with_header(alg=["RS256"]),
    "alg a number": lambda good: good.with_header(alg=256),
    "alg unknown": lambda good: good.with_header(alg="RS257"),
}
KEY_NAMES: dict[str, Callable[[Good], str]] = {
    "kid a path": lambda good: good.with_header(kid="../../etc/passwd"),
    "kid the path of the key": lambda good: good.with_header(kid=f"{good.folder}/{KEY_FILE}"),
    "kid the name of the key's file": lambda good: good.with_header(kid=KEY_FILE),
    "kid an empty file, HS256 with nothing": _empty_file,
    "kid a URL": lambda good: good.with_header(kid=good.url),
    "kid SQL": lambda good: good.with_header(kid="' OR 1=1 --"),
    "kid more SQL": lambda good: good.with_header(kid="x' UNION SELECT 'key'; DROP TABLE users; --"),
    "kid a command": lambda good: good.with_header(kid="| touch /tmp/x"),
    "kid a list": lambda good: good.with_header(kid=[good.header["kid"]]),
    "kid a number": lambda good: good.with_header(kid=1),
    "kid an object": lambda good: good.with_header(kid={"kid": good.header["kid"]}),
    "kid true": lambda good: good.with_header(kid=True),
    "kid missing": lambda good: good.with_header(kid=None),
    "kid null": lambda good: good.signed(json.dumps(good.header | {"kid": None}).encode()),
    "kid empty": lambda good: good.with_header(kid=""),
    "kid with NUL": lambda good: good.with_header(kid=good.header["kid"] + "\0"),
    "kid a lone surrogate": lambda good: good.with_header(kid="\ud800"),
    "kid in other case": lambda good: good.with_header(kid=good.header["kid"].swapcase()),
    "kid long": lambda good: good.with_header(kid="k" * 2000),
    "kid very long": lambda good: good.with_header(kid="k" * 9000),
    "kid of the thief's key": lambda good: good.signed({"kid": thumbprint(good.thief.public_key())}, key=good.thief),
    "signed by the thief": lambda good: good.signed(key=good.thief),
}
# Each of these by our key, which a careless signer could be made to do, and by the thief's, which the header offers.
HEADERS: dict[str, Callable[[Good], str]] = {
    f"{name}, signed by {who}": lambda good, change=change, who=who: good.signed(
        change(good), key=good.thief if who == "the thief" else good.key
    )
    for name, change in {
        "jku": lambda good: {"jku": good.url},
        "jku a file": lambda good: {"jku": f"file://{good.folder}/{KEY_FILE}"},
        "jwk": lambda good: {"jwk": good.thiefs_jwk()},
        "x5u": lambda good: {"x5u": good.url},
        "x5c": lambda good: {"x5c": [base64.b64encode(good.public(encoding=Encoding.DER)).decode()]},
        "crit unknown": lambda good: {"crit": ["x"], "x": 1},
        "crit b64": lambda good: {"crit": ["b64"], "b64": True},
        "crit empty": lambda good: {"crit": []},
        "crit a string": lambda good: {"crit": "exp"},
        "b64 false": lambda good: {"b64": False, "crit": ["b64"]},
        "b64": lambda good: {"b64": True},
        "zip": lambda good: {"zip": "DEF"},
        "cty": lambda good: {"cty": "JWT"},
    }.items()
    for who in ("us", "the thief")
}
KINDS: dict[str, Callable[[Good], str]] = {
    "an id token": lambda good: good.with_header(typ="JWT"),
    "a logout token": lambda good: good.with_header(typ="logout+jwt"),
    "typ missing": lambda good: good.with_header(typ=None),
    "typ a list": lambda good: good.with_header(typ=["at+jwt"]),
    "typ a number": lambda good: good.with_header(typ=1),
    "a refresh token": lambda good: secrets.token_urlsafe(32),
    "an encrypted token": lambda good: f"{good.token}.AAAA.AAAA",
}
TIMES: dict[str, Callable[[Good], str]] = {
    f"{name} {value!r}": lambda good, name=name, value=value: good.with_claim(**{name: value})
    for name, values in {
        "exp": (
            1,
            0,
            -1,
            -FAR,
            True,
            False,
            FAR,
            1e300,
            1e400,
            -1e400,
            float("nan"),
            "soon",
            "",
            "99999999999",
            [99999999999],
            {},
        ),
        "iat": ("now", 1e400, float("nan"), FAR, [1], {}, True, "1"),
        "nbf": (FAR, 1e400, float("nan"), "now", []),
    }.items()
    for value in values
} | {
    "exp a second ago": lambda good: good.with_claim(exp=int(time.time()) - 1),
    "exp in a year": lambda good: good.with_claim(exp=int(time.time()) + 31_536_000),
    "exp a string of the right number": lambda good: good.with_claim(exp=str(good.claims["exp"])),
    "exp a fraction": lambda good: good.with_claim(exp=good.claims["exp"] + 0.5),
    "exp missing": lambda good: good.with_claim(exp=None),
    "exp null": lambda good: good.signed(claims=json.dumps(good.claims | {"exp": None}).encode()),
    "iat missing": lambda good: good.with_claim(iat=None),
    "iat in an hour": lambda good: good.with_claim(iat=int(time.time()) + 3600),
}
CLAIMS: dict[str, Callable[[Good], str]] = {
    f"{name} {value!r}": lambda good, name=name, value=value: good.with_claim(**{name: value})
    for name, values in {
        "iss": ("somebody", "", "Petstore", "petstore ", ["petstore"], {"petstore": 1}, 1, True),
        "aud": ("somebody", "", ["petstore"], ["petstore", "somebody"], [], {"petstore": 1}, 1, True),
        "sub": (7, "x", "", "-7", "+7", " 7", "7.0", "٧", "7 OR 1=1", "9" * 30, str(2**63), True, [7], {}),
        "sid": (3, "x", "", "-3", "+3", "3.0", "٣", "' OR 1=1 --", "9" * 30, str(2**63), True, [3], {}),
        "jti": (7, [], {}),
        "session_uuid": ("", "1", 7, True, [], {}, UUID.upper(), UUID.replace("-", ""), f"{UUID}\n", f"{UUID} "),
        "token_version": ("1", "", True, False, 0, -1, 1.0, 2**31, 2**40, 1e400, [1], {}),
    }.items()
    for value in values
} | {
    f"{name} missing": lambda good, name=name: good.with_claim(**{name: None})
    for name in ("iss", "aud", "sub", "sid", "jti", "role", "token_version")
}
SHAPES: dict[str, Callable[[Good], str]] = {
    "signature padded by one": lambda good: good.token + "=",
    "signature padded": lambda good: good.token + "==",
    "signature padded by four": lambda good: good.token + "====",
    "signature cut by one": lambda good: good.token[:-1],
    "signature cut": lambda good: good.token[:-3],
    "signature cut by a byte's worth": lambda good: good.with_signature(lambda signature: signature[:-4] + signature[-2:]),
    "signature gone": lambda good: good.with_signature(lambda _: ""),
    "signature and dot gone": lambda good: ".".join(good.parts[:2]),
    "signature of zeros": lambda good: good.with_signature(lambda _: b64(bytes(256))),
    "signature of ones": lambda good: good.with_signature(lambda _: b64(b"\xff" * 256)),
    "signature of the next token": lambda good: good.with_signature(lambda _: good.with_claim(jti="another").split(".")[2]),
    "signature longer": lambda good: good.token + "AAAA",
    "signature with other last bits": lambda good: good.with_signature(last_bits),
    "signature in the other alphabet": lambda good: good.with_signature(lambda s: s.replace("-", "+").replace("_", "/") + "+/"),
    "signature with junk after it": lambda good: good.token + "!!!!",
    "signature with junk inside": lambda good: good.with_signature(lambda signature: signature[:8] + "!!!!" + signature[8:]),
    "signature with a comma": lambda good: good.token + ",",
    "signature with a space inside": lambda good: good.with_signature(lambda signature: signature[:8] + " " + signature[8:]),
    "signature with a tab inside": lambda good: good.with_signature(lambda signature: signature[:8] + "\t" + signature[8:]),
    "payload with a space inside": lambda good: ".".join(
        (good.parts[0], good.parts[1][:8] + " " + good.parts[1][8:], good.parts[2])
    ),
    "payload padded": lambda good: ".".join((good.parts[0], good.parts[1] + "=" * (-len(good.parts[1]) % 4 or 4), good.parts[2])),
    "payload of an admin": lambda good: ".".join((good.parts[0], b64(to_bytes(good.claims | {"role": "admin"})), good.parts[2])),
    "payload of another user": lambda good: ".".join((good.parts[0], b64(to_bytes(good.claims | {"sub": "1"})), good.parts[2])),
    "header gone": lambda good: "." + ".".join(good.parts[1:]),
    "payload gone": lambda good: f"{good.parts[0]}..{good.parts[2]}",
    "a dot more": lambda good: good.token + ".",
    "a dot before": lambda good: "." + good.token,
    "twice": lambda good: f"{good.token}.{good.token}",
    "twice with a comma": lambda good: f"{good.token},{good.token}",
    "in quotes": lambda good: f'"{good.token}"',
    "one dot": lambda good: ".",
    "two dots": lambda good: "..",
    "no dot": lambda good: "x" * 600,
    "many dots": lambda good: "." * 4000,
    "not ASCII": lambda good: good.token + "é",
    "4 KB": lambda good: good.signed(claims={"x": "y" * 3000}),
    "8 KB": lambda good: good.signed(claims={"x": "y" * 6000}),
    "8 KB of one letter": lambda good: "x" * 8000,
}
DOCUMENTS: dict[str, Callable[[Good], str]] = {
    "header a list": lambda good: good.signed(json.dumps([good.header]).encode()),
    "header a string": lambda good: good.signed(b'"RS256"'),
    "header null": lambda good: good.signed(b"null"),
    "header no JSON": lambda good: good.signed(b"{alg: RS256}"),
    "header nothing": lambda good: good.signed(b""),
    "header nested": lambda good: good.signed(NESTED),
    "header not UTF-8": lambda good: good.signed(b"\xff" + json.dumps(good.header).encode()),
    "payload a list": lambda good: good.signed(claims=json.dumps([good.claims]).encode()),
    "payload a number": lambda good: good.signed(claims=b"7"),
    "payload no JSON": lambda good: good.signed(claims=b"sub=7"),
    "payload nothing": lambda good: good.signed(claims=b""),
    "payload nested": lambda good: good.signed(claims=NESTED),
    "payload not UTF-8": lambda good: good.signed(claims=b"\xff" + json.dumps(good.claims).encode()),
    "payload with a number of 3,000 digits": lambda good: good.signed(claims=b'{"exp": ' + b"9" * 2900 + b"}"),
}
ATTACKS = {**ALGORITHMS, **KEY_NAMES, **HEADERS, **KINDS, **TIMES, **CLAIMS, **SHAPES, **DOCUMENTS}
