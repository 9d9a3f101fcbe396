"""What a verifier takes for a token, and what it refuses."""

from __future__ import annotations

import base64
import errno
import hashlib
import hmac
import json
import logging
import os
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

import trio_ws_app as ws
from trio_ws_app import auth

SECRET = "a long random text, or so"
RSA = generate_private_key(65537, 2048)
ED25519 = Ed25519PrivateKey.generate()
RSA_PEM, ED25519_PEM = (
    key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in (RSA, ED25519)
)
SOON = time.time() + 3600
ANN = {"sub": "ann", "exp": SOON}


def part(value: bytes | dict[str, object]) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header: dict[str, object], payload: bytes | dict[str, object], key: bytes | None) -> str:
    """A token made by hand; ``key`` signs it with HMAC."""
    text = f"{part(header)}.{part(payload)}"
    signature = b"" if key is None else hmac.new(key, text.encode(), hashlib.sha256).digest()
    return f"{text}.{part(signature)}"


@pytest.mark.parametrize(
    ("keys", "token"),
    [
        (auth.secret(SECRET), auth.sign(SECRET, ANN)),
        (auth.public_key(RSA_PEM), jwt.encode(ANN, RSA, "RS256")),
        (auth.public_key(ED25519_PEM.decode()), jwt.encode(ANN, ED25519, "EdDSA")),
    ],
    ids=["HS256", "RS256", "EdDSA"],
)
def test_a_good_token_names_its_user(keys: auth.Keys, token: str) -> None:
    """Its subject, its end and its claims, for each algorithm."""
    user = auth.Verifier(keys).user(token)
    assert (user.id, user.expires_at, user.claims) == ("ann", SOON, ANN)


@pytest.mark.parametrize(
    ("token", "problem"),
    [
        ("", "no token|DecodeError"),
        (b"\xff\xfe", "no token|DecodeError"),
        ("a.b.c", "DecodeError"),
        ("\ud800", "no token"),
        (auth.sign(SECRET, ANN)[:-3] + "AAA", "signature"),
        (auth.sign(SECRET + "x", ANN), "signature"),
        (auth.sign(SECRET, {"sub": "ann", "exp": time.time() - 1}), "out of date"),
        (auth.sign(SECRET, {"sub": "ann", "exp": SOON, "nbf": SOON}), "ImmatureSignatureError"),
        (auth.sign(SECRET, {"sub": "ann"}), "MissingRequiredClaim"),
        (auth.sign(SECRET, {"exp": SOON}), "MissingRequiredClaim"),
        (auth.sign(SECRET, ANN | {"aud": "others"}), "Audience"),
        (forged({"alg": "none"}, ANN, None), "Algorithm"),
        (forged({"alg": "HS384"}, ANN, SECRET.encode()), "Algorithm"),
        (forged({"alg": "HS256", "kid": {}}, ANN, SECRET.encode()), "refused|no token"),
        (forged({"alg": "HS256"}, b"[" * 3000, SECRET.encode()), "refused|no token"),
        (forged({"alg": "HS256"}, b'{"sub": "ann", "exp": 1e400}', SECRET.encode()), "refused|no token"),
        (part(b"[" * 3000) + ".e30.AAAA", "refused|no token"),
    ],
)
def test_a_bad_token_is_refused(token: str | bytes, problem: str) -> None:
    """Forged, damaged, old, early, incomplete, for others, or nested without end: one kind of error."""
    with pytest.raises(auth.TokenRefused, match=problem) as caught:
        auth.Verifier(auth.secret(SECRET)).user(token)
    assert caught.value.expired == ("out of date" in str(caught.value))


@pytest.mark.parametrize("exp", ["99999999999", 10**400, 1e12, True])
def test_a_token_whose_end_is_no_time_is_refused(exp: object) -> None:
    """However well it is signed: a session without an end would follow."""
    verifier = auth.Verifier(auth.secret(SECRET))
    token = forged({"alg": "HS256"}, {"sub": "ann", "exp": exp}, SECRET.encode())
    with pytest.raises(auth.TokenRefused):
        verifier.user(token)


@pytest.mark.parametrize("pem", [RSA_PEM, ED25519_PEM], ids=["RSA", "Ed25519"])
def test_a_public_key_is_no_secret(pem: bytes) -> None:
    """A token that is signed with the public key's text, as if it were a secret, is refused."""
    with pytest.raises(auth.TokenRefused, match="Algorithm"):
        auth.Verifier(auth.public_key(pem)).user(forged({"alg": "HS256"}, ANN, pem))


def test_a_token_over_the_limit_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size alone refuses it."""
    monkeypatch.setattr(jwt, "get_unverified_header", lambda _: pytest.fail("parsed"))
    with pytest.raises(auth.TokenRefused, match="more than 8192 characters"):
        auth.Verifier(auth.secret(SECRET)).user("x" * 8193)


def test_no_claims_are_parsed_before_the_signature_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a forged token only the header is."""
    token = auth.sign(SECRET + "x", ANN)
    parsed: list[bytes | str] = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text, **_: parsed.append(text) or loads(text))
    with pytest.raises(auth.TokenRefused):
        auth.Verifier(auth.secret(SECRET)).user(token)
    assert parsed
    assert not [text for text in parsed if "sub" in str(text)]


def test_audience_issuer_and_leeway_are_checked() -> None:
    """Those that are asked for have to be there; clocks may differ by the leeway."""
    verifier = auth.Verifier(auth.secret(SECRET), audience="chat", issuer="us", leeway=60)
    good = ANN | {"aud": ["chat", "mail"], "iss": "us"}
    assert verifier.user(auth.sign(SECRET, good)).id == "ann"
    assert verifier.user(auth.sign(SECRET, good | {"exp": time.time() - 10})).expires_at > time.time()
    for wrong in ({"aud": "mail"}, {"iss": "them"}):
        with pytest.raises(auth.TokenRefused):
            verifier.user(auth.sign(SECRET, good | wrong))


def test_a_short_secret_is_refused() -> None:
    """Below sixteen bytes it could be guessed."""
    with pytest.raises(ValueError, match="at least 16 bytes, this one 3"):
        auth.secret("abc")
    with pytest.raises(ValueError, match=r"Unable to load|PEM"):
        auth.public_key("not a key, but a longer text")


def key_set(path: Path, *keys: dict[str, object]) -> None:
    """Replace the file, as a person would who exchanges keys."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"keys": list(keys)}))
    os.replace(new, path)


def rsa(kid: str | None = None) -> dict[str, object]:
    return RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True) | ({} if kid is None else {"kid": kid})


def ed25519(kid: str) -> dict[str, object]:
    return OKPAlgorithm.to_jwk(ED25519.public_key(), as_dict=True) | {"kid": kid}


def test_a_key_set_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """New keys count at once, those that are gone no longer, an unknown one is refused."""
    path = tmp_path / "keys.json"
    key_set(path, rsa("old"))
    verifier = auth.Verifier(auth.JwksFile(path))
    old = jwt.encode(ANN, RSA, "RS256", {"kid": "old"})
    new = jwt.encode(ANN, ED25519, "EdDSA", {"kid": "new"})
    assert verifier.user(old).id == "ann"
    with pytest.raises(auth.TokenRefused, match="key that is not known"):
        verifier.user(new)
    key_set(path, ed25519("new"))
    assert verifier.user(new).id == "ann"
    with pytest.raises(auth.TokenRefused, match="key that is not known"):
        verifier.user(old)


@pytest.mark.parametrize("damage", ["gone", "text", "empty", "huge", "pipe"])
def test_a_damaged_key_set_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    """It is logged once, the keys stay, and the next good file counts."""
    path = tmp_path / "keys.json"
    key_set(path, rsa("a"))
    verifier = auth.Verifier(auth.JwksFile(path))
    token = jwt.encode(ANN, RSA, "RS256", {"kid": "a"})
    if damage in ("gone", "pipe"):
        path.unlink()
        if damage == "pipe":
            os.mkfifo(path)
    else:
        path.write_text({"text": "no JSON", "empty": '{"keys": []}', "huge": " " * 2**21}[damage])
    with caplog.at_level(logging.WARNING):
        assert [verifier.user(token).id for _ in range(3)] == ["ann"] * 3
    assert len(caplog.records) == 1
    path.unlink(missing_ok=True)
    key_set(path, ed25519("b"))
    assert verifier.user(jwt.encode(ANN, ED25519, "EdDSA", {"kid": "b"})).id == "ann"


def test_a_key_set_that_cannot_be_opened_for_a_moment_is_read_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its file stays the same meanwhile; that is logged once."""
    path = tmp_path / "keys.json"
    key_set(path, rsa("a"))
    verifier = auth.Verifier(auth.JwksFile(path))
    key_set(path, rsa("b"))
    old, new = (jwt.encode(ANN, RSA, "RS256", {"kid": kid}) for kid in "ab")

    def refuse(_path: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr("trio_ws_app.auth.keys.open_regular", refuse)
        assert [verifier.user(old).id for _ in range(3)] == ["ann"] * 3
    assert len(caplog.records) == 1
    assert verifier.user(new).id == "ann"


def secret(value: bytes) -> dict[str, object]:
    return {"kty": "oct", "kid": "s", "k": part(value)}


def test_a_short_secret_in_a_key_set_is_refused(tmp_path: Path) -> None:
    """As it is anywhere else."""
    path = tmp_path / "keys.json"
    key_set(path, secret(SECRET.encode()))
    token = jwt.encode(ANN, SECRET.ljust(32, "\0"), "HS256", {"kid": "s"})
    assert auth.Verifier(auth.JwksFile(path)).user(token).id == "ann"
    key_set(path, secret(b"abc"))
    with pytest.raises(ws.UsageError, match="at least 16 bytes, this one 3"):
        auth.JwksFile(path)


def test_a_signers_own_key_set_checks_its_tokens(tmp_path: Path) -> None:
    """The private half of a key is left alone."""
    path = tmp_path / "keys.json"
    key_set(
        path,
        RSAAlgorithm.to_jwk(RSA, as_dict=True) | {"kid": "a"},
        OKPAlgorithm.to_jwk(ED25519, as_dict=True) | {"kid": "b"},
    )
    verifier = auth.Verifier(auth.JwksFile(path))
    assert verifier.user(jwt.encode(ANN, RSA, "RS256", {"kid": "a"})).id == "ann"
    assert verifier.user(jwt.encode(ANN, ED25519, "EdDSA", {"kid": "b"})).id == "ann"
    with pytest.raises(auth.TokenRefused, match="signature"):
        verifier.user(jwt.encode(ANN, generate_private_key(65537, 2048), "RS256", {"kid": "a"}))


def test_a_key_of_a_set_has_one_algorithm(tmp_path: Path) -> None:
    """A token cannot choose another, not with the key's text either; keys for other uses are left out."""
    path = tmp_path / "keys.json"
    key_set(path, rsa() | {"kid": "a"}, ed25519("b") | {"use": "enc"}, rsa("c") | {"alg": "RS512"})
    verifier = auth.Verifier(auth.JwksFile(path))
    for header, key in (
        ({"alg": "HS256", "kid": "a"}, RSA_PEM),
        ({"alg": "none", "kid": "a"}, None),
        ({"alg": "EdDSA", "kid": "b"}, b"x"),
        ({"alg": "RS512", "kid": "c"}, b"x"),
    ):
        with pytest.raises(auth.TokenRefused):
            verifier.user(forged(header, ANN, key))


def test_the_only_key_is_for_tokens_that_name_none(tmp_path: Path) -> None:
    """With one key in the set a token needs no id; with two it does."""
    path = tmp_path / "keys.json"
    key_set(path, rsa("a"))
    verifier = auth.Verifier(auth.JwksFile(path))
    token = jwt.encode(ANN, RSA, "RS256")
    assert verifier.user(token).id == "ann"
    key_set(path, rsa("a"), ed25519("b"))
    with pytest.raises(auth.TokenRefused, match="not known"):
        verifier.user(token)


def test_a_key_set_has_to_be_there_at_the_start(tmp_path: Path) -> None:
    """What is missing or none is said in one line."""
    with pytest.raises(ws.UsageError, match="No such file"):
        auth.JwksFile(tmp_path / "keys.json")
    (tmp_path / "keys.json").write_text("[]")
    with pytest.raises(ws.UsageError, match="no JSON Web Key Set"):
        auth.JwksFile(tmp_path / "keys.json")
