"""Certificates by name, of clients, and read again; what a request tells of its TLS."""

from __future__ import annotations

import datetime
import logging
import os
import ssl
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme
from certificates import presenting, trusting, write_authority, write_pair
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import CertificateBuilder, Name, NameAttribute
from cryptography.x509.oid import NameOID
from serving import serving, upgrade

import trio_ws_app as ws


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


async def whole(connection: ws.Connection) -> None:
    """Says what was agreed on."""
    tls = connection.request.tls
    assert tls is not None
    assert connection.request.scheme == "https"
    subject, size = (tls.certificate or {}).get("subjectAltName"), len(tls.certificate_der or b"")
    await connection.send(f"{tls.version} {tls.alpn} {tls.server_name} {subject} {size}")
    await connection.wait_closed()


async def shown(port: int, context: ssl.SSLContext, name: str | None) -> set[str]:
    """The names in the certificate that a client is shown that asks for ``name``."""
    context.check_hostname = False
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context)
    if name is not None:
        plain = await trio.open_tcp_stream("127.0.0.1", port)
        await trio.aclose_forcefully(stream)
        stream = trio.SSLStream(plain, context, server_hostname=name)
    await stream.do_handshake()
    certificate = stream.getpeercert()
    await trio.aclose_forcefully(stream)
    return {value for _, value in certificate["subjectAltName"]}


async def test_a_client_gets_the_certificate_of_the_name_it_asks_for(
    tmp_path: Path, authority: trustme.CA
) -> None:
    """Exactly, or by a star for one level; else the first one."""
    pairs = [
        write_pair(tmp_path, authority, *names)
        for names in (("a.example",), ("b.example", "B2.example"), ("*.b.example",))
    ]
    certificates = ws.Certificates(*pairs)
    async with serving(ssl_context=certificates.context) as server:
        show = partial(shown, server.port, trusting(authority))
        assert await show("a.example") == {"a.example"}
        assert await show("b2.example") == await show("B.EXAMPLE") == {"b.example", "b2.example"}
        assert await show("c.b.example") == {"*.b.example"}
        for name in ("d.c.b.example", "other.example", None):
            assert await show(name) == {"a.example"}


async def test_a_request_tells_what_was_agreed_on(tmp_path: Path, authority: trustme.CA) -> None:
    """Version, ALPN, the name asked for, and the client's certificate, as a dict and whole."""
    certificates = ws.Certificates(
        write_pair(tmp_path, authority, "localhost"), client_ca=write_authority(tmp_path, authority)
    )
    mine = trusting(authority, certificate=authority.issue_cert("ann@example.com"))
    mine.set_alpn_protocols(["h2", "http/1.1"])
    async with (
        serving(whole, ssl_context=certificates.context) as server,
        ws.connect(f"wss://localhost:{server.port}", ssl_context=mine) as client,
    ):
        version, alpn, name, *certificate, size = str(await client.receive()).split()
        assert (version, alpn, name) == ("TLSv1.3", "http/1.1", "localhost")
        assert " ".join(certificate) == "(('email', 'ann@example.com'),)"
        assert int(size) > 300


async def test_an_ssl_context_of_the_callers_tells_the_name_too(authority: trustme.CA) -> None:
    """Unless it has a callback of its own."""
    context = presenting(authority, "localhost")
    async with (
        serving(whole, ssl_context=context) as server,
        ws.connect(f"wss://localhost:{server.port}", ssl_context=trusting(authority)) as client,
    ):
        assert await client.receive() == "TLSv1.3 None localhost None 0"


@pytest.mark.parametrize("kind", ["none", "foreign", "known"])
async def test_only_clients_of_the_authority_get_in(tmp_path: Path, authority: trustme.CA, kind: str) -> None:
    """With ``client_ca`` a client without a certificate of it is no client; nothing is logged of it."""
    certificates = ws.Certificates(
        write_pair(tmp_path, authority, "localhost"), client_ca=write_authority(tmp_path, authority)
    )
    issuer = authority if kind == "known" else trustme.CA()
    leaf = None if kind == "none" else issuer.issue_cert("ann")
    async with serving(ssl_context=certificates.context) as server:
        plain = await trio.open_tcp_stream("127.0.0.1", server.port)
        stream = trio.SSLStream(plain, trusting(authority, certificate=leaf), server_hostname="localhost")
        try:
            await stream.send_all(upgrade())
            answer = bytes(await stream.receive_some())
        except trio.BrokenResourceError:
            answer = b""
        await trio.aclose_forcefully(stream)
        assert answer[:12] == (b"HTTP/1.1 101" if kind == "known" else b"")
        assert server.statistics().refused == ({} if kind == "known" else {"TLS handshake failed": 1})


async def test_old_versions_are_refused(tmp_path: Path, authority: trustme.CA) -> None:
    """Those below ``minimum_version``."""
    pair = write_pair(tmp_path, authority, "localhost")
    mine = trusting(authority)
    mine.maximum_version = ssl.TLSVersion.TLSv1_2
    for minimum, gets_in in ((ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, False)):
        certificates = ws.Certificates(pair, minimum_version=minimum)
        async with serving(ssl_context=certificates.context) as server:
            try:
                async with ws.connect(f"wss://localhost:{server.port}", ssl_context=mine):
                    assert gets_in
            except OSError:
                assert not gets_in


async def test_renewed_files_are_read_again(tmp_path: Path, authority: trustme.CA) -> None:
    """New clients get the new certificate, and the connections that there are go on."""
    pair = write_pair(tmp_path, authority, "localhost", file="server")
    certificates = ws.Certificates(pair)
    url = "wss://localhost:{}".format
    async with (
        serving(ssl_context=certificates.context) as server,
        ws.connect(url(server.port), ssl_context=trusting(authority)) as client,
    ):
        write_pair(tmp_path, authority, "new.example", file="server")
        assert certificates.reload()
        assert await shown(server.port, trusting(authority), "localhost") == {"new.example"}
        await client.send("still here")
        assert await client.receive() == "still here"


def damage_file(path: str, size: int) -> None:
    """Leave so many bytes of it, and something else."""
    Path(path).write_text(Path(path).read_text()[:size] + "broken")


@pytest.mark.parametrize("damage", ["half", "other key", "gone", "text", "pipe"])
async def test_a_broken_file_keeps_the_old_certificate(
    tmp_path: Path, authority: trustme.CA, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With one WARNING; the certificate, its key and the authority of clients stay together as they were."""
    chain, key = write_pair(tmp_path, authority, "localhost", file="server")
    certificates = ws.Certificates((chain, key))
    async with serving(ssl_context=certificates.context) as server:
        other = write_pair(tmp_path, authority, "other.example")
        if damage == "gone":
            os.unlink(key)
        elif damage == "other key":
            os.replace(other[1], key)
        elif damage == "pipe":  # without a writer: reading it would never end
            os.unlink(key)
            os.mkfifo(key)
        else:
            damage_file(chain, 0 if damage == "text" else 200)
        assert not certificates.reload()
        (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert "the old ones stay" in record.getMessage()
        assert (chain if damage in ("half", "text") else key) in record.getMessage()
        assert await shown(server.port, trusting(authority), "localhost") == {"localhost"}


@pytest.mark.usefixtures("autojump_clock")
async def test_changes_are_noticed(
    tmp_path: Path, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    """Also of a link that leads elsewhere, and not while only one of two files is there."""
    caplog.set_level(logging.INFO)
    for number in (1, 2):
        (tmp_path / f"{number}").mkdir()
        write_pair(tmp_path / f"{number}", authority, "localhost", file="server")
    live = tmp_path / "live"
    live.symlink_to("1")
    certificates = ws.Certificates((str(live / "server.pem"), str(live / "server-key.pem")))

    def said() -> list[str]:
        texts = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return texts

    async with trio.open_nursery() as nursery:
        nursery.start_soon(certificates.watch)
        await trio.sleep(10)
        assert said() == []
        (tmp_path / "new").symlink_to("2")
        (tmp_path / "new").replace(live)
        await trio.sleep(10)
        assert said() == ["the TLS certificates were read again"]
        damage_file(str(live / "server.pem"), 0)
        await trio.sleep(60)
        (warning,) = said()
        assert "the old ones stay" in warning
        write_pair(tmp_path / "2", authority, "localhost", file="server")
        await trio.sleep(10)
        assert said() == ["the TLS certificates were read again"]
        nursery.cancel_scope.cancel()


def test_mistakes_are_raised(tmp_path: Path, authority: trustme.CA) -> None:
    """At once, since there is nothing to keep."""
    chain, key = write_pair(tmp_path, authority, "localhost")
    with pytest.raises(ValueError, match="needs a certificate"):
        ws.Certificates()
    with pytest.raises(FileNotFoundError):
        ws.Certificates((chain, key + "x"))
    with pytest.raises(ssl.SSLError):
        ws.Certificates((key, chain))
    with pytest.raises(ssl.SSLError):
        ws.Certificates((chain, key), client_ca=key)


def test_an_encrypted_key_is_refused(tmp_path: Path, authority: trustme.CA) -> None:
    """Nothing asks for a passphrase."""
    chain, key = write_pair(tmp_path, authority, "localhost")
    private = load_pem_private_key(Path(key).read_bytes(), None)
    encryption = BestAvailableEncryption(b"secret")
    Path(key).write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    with pytest.raises(ValueError, match="encrypted"):
        ws.Certificates((chain, key))


async def test_a_certificate_without_names_is_for_nobody(tmp_path: Path, authority: trustme.CA) -> None:
    """Whatever name a client asks for: it gets the first one."""
    first = write_pair(tmp_path, authority, "a.example")
    key = generate_private_key(SECP256R1())
    name = Name([NameAttribute(NameOID.COMMON_NAME, "b.example")])
    now = datetime.datetime.now(datetime.UTC)
    builder = CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    nameless = tmp_path / "nameless.pem", tmp_path / "nameless-key.pem"
    nameless[0].write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    nameless[1].write_bytes(plain)
    certificates = ws.Certificates(first, (str(nameless[0]), str(nameless[1])))
    async with serving(ssl_context=certificates.context) as server:
        assert await shown(server.port, trusting(authority), "b.example") == {"a.example"}
