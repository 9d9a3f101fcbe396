"""Tokens without an end, keys of another kind, tickets while the broker is away, and missing extras."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import trio_ws_app as ws
from trio_ws_app import auth
from trio_ws_app.broker import BrokerUnavailable, Delivery, Gap, MemoryBroker
from trio_ws_app.testing import serve_in_memory

SECRET = "a long random text, or so"
EC = generate_private_key(SECP256R1()).public_key()
EC_PEM = EC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
UNKNOWN_PEM = "-----BEGIN PUBLIC KEY-----\nMAwwBwYDKgMEBQADAQA=\n-----END PUBLIC KEY-----\n"


def test_a_token_needs_no_end_if_none_is_required() -> None:
    """Its user stays for as long as the connection."""
    user = auth.Verifier(auth.secret(SECRET), require=("sub",)).user(auth.sign(SECRET, {"sub": "ann"}))
    assert (user.id, user.expires_at) == ("ann", None)


@pytest.mark.parametrize("text", [SECRET, SECRET.encode()])
def test_a_text_is_no_keys(text: str) -> None:
    """Though it has a method of their name."""
    with pytest.raises(TypeError, match=r"auth\.secret"):
        auth.Verifier(text)  # type: ignore[arg-type]


def test_a_public_key_of_another_kind_is_refused() -> None:
    """The message names the kinds that do."""
    with pytest.raises(ValueError, match="RSA or Ed25519, this is a"):
        auth.public_key(EC_PEM)
    with pytest.raises(ValueError, match=r"Unknown key type: 1\.2\.3\.4"):
        auth.public_key(UNKNOWN_PEM)


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("jwt", lambda: auth.Verifier(auth.secret(SECRET))),
        ("cryptography.hazmat.primitives.serialization", lambda: auth.public_key(EC_PEM)),
    ],
    ids=["jwt", "cryptography"],
)
def test_a_missing_extra_is_said(module: str, call: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ws.UsageError, match=r"pip install 'trio-ws-app\[auth\]'"):
        call()  # type: ignore[operator]


@pytest.mark.parametrize(
    "entry", ['{"kty": "RSA", "n": "AQAB"}', '{"kty": "OKP", "crv": "Ed25519", "x": "!"}'], ids=["RSA", "OKP"]
)
def test_a_key_of_a_set_that_is_damaged_is_refused(entry: str, tmp_path: Path) -> None:
    """At the start, when there is no older set to keep."""
    (tmp_path / "keys.json").write_text('{"keys": [' + entry + "]}")
    with pytest.raises(ws.UsageError, match="is none for"):
        auth.JwksFile(str(tmp_path / "keys.json"))


class Away(MemoryBroker):
    """A broker that cannot be reached."""

    async def history(self, _topic: str, **_: object) -> list[Delivery | Gap]:
        raise BrokerUnavailable("away")


@pytest.mark.usefixtures("autojump_clock")
async def test_a_ticket_that_cannot_be_looked_up_is_no_wrong_one() -> None:
    """The client gets 503, and may come back with it."""

    async def handler(_connection: ws.Connection) -> None:
        pytest.fail("nobody comes in")

    async with serve_in_memory(handler, process_request=auth.ticket(auth.Tickets(Away()))) as server:
        with pytest.raises(ws.HandshakeRefused) as refused:
            await server.connect("/?ticket=abc")
    assert refused.value.status == 503


@pytest.mark.usefixtures("autojump_clock")
async def test_a_subprotocol_that_is_no_token_is_refused() -> None:
    """Also if it is no base64 at all."""

    async def handler(_connection: ws.Connection) -> None:
        pytest.fail("nobody comes in")

    verifier = auth.Verifier(auth.secret(SECRET))
    hook = auth.bearer(verifier, auth.subprotocol())
    async with serve_in_memory(handler, process_request=hook) as server:
        for name in ("base64url.bearer.!", "base64url.bearer.a", "base64url.bearer.x._w"):
            with pytest.raises(ws.HandshakeRefused) as refused:
                await server.connect(subprotocols=[name])
            assert refused.value.status == 401
