"""TLS on the command line: names, clients, versions, and certificates that are renewed while it serves."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
import trustme
from certificates import trusting, write_authority, write_pair
from running import PATIENCE, run, serving
from tls_client import TlsClient, secured
from websockets.exceptions import ConnectionClosed, WebSocketException


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def shown(port: int, authority: trustme.CA, name: str) -> str:
    """The name in the certificate that a client gets that asks for ``name``."""
    context = trusting(authority)
    context.check_hostname = False
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        return str(dict(secured.getpeercert()["subjectAltName"])["DNS"])  # type: ignore[index, arg-type]


def await_shown(port: int, authority: trustme.CA, name: str) -> None:
    """Wait until clients are shown the certificate of this name, whichever worker they get."""
    deadline = time.monotonic() + PATIENCE
    while {shown(port, authority, "localhost") for _ in range(8)} != {name}:
        assert time.monotonic() < deadline
        time.sleep(0.25)  # eight handshakes are work for both sides


def echoes(client: TlsClient) -> bool:
    client.send("hello")
    return client.recv() == "hello"


@pytest.mark.parametrize("how", ["signal", "watch", "workers"])
def test_a_renewed_certificate_is_served(tmp_path: Path, authority: trustme.CA, how: str) -> None:
    """On SIGHUP, or when the files have changed; the connections that there are go on."""
    chain, key = write_pair(tmp_path, authority, "localhost", file="server")
    options = ["--tls-cert", chain, "--tls-key", key]
    if how == "workers":
        options += ["--workers", "2", "--broker", "none"]
    with serving("echo", *options) as server, secured(
        f"wss://localhost:{server.port}", sock=socket.create_connection(("127.0.0.1", server.port)),
        ssl=trusting(authority),
    ) as client:  # fmt: skip
        write_pair(tmp_path, authority, "new.example", file="server")
        if how == "signal":
            server.process.send_signal(signal.SIGHUP)
        await_shown(server.port, authority, "new.example")
        assert echoes(client)
        Path(chain).write_text("broken")
        if how == "signal":
            server.process.send_signal(signal.SIGHUP)
        server.await_error("the old ones stay")
        assert shown(server.port, authority, "localhost") == "new.example"
        assert echoes(client)
        server.process.terminate()
        with pytest.raises(ConnectionClosed) as caught:
            client.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001  # the signals before did not count
        assert server.wait().status == 0


def test_several_certificates(tmp_path: Path, authority: trustme.CA) -> None:
    """Each with its key; openssl's client gets the one of the name that it asks for."""
    options = []
    for name in ("a.example", "b.example"):
        chain, key = write_pair(tmp_path, authority, name)
        options += ["--tls-cert", chain, "--tls-key", key]
    with serving("echo", *options) as server:
        for name in ("a.example", "b.example"):
            done = subprocess.run(
                ["openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-servername", name],
                input="", capture_output=True, text=True, timeout=PATIENCE,
            )  # fmt: skip
            text = subprocess.run(
                ["openssl", "x509", "-noout", "-ext", "subjectAltName"],
                input=done.stdout, capture_output=True, text=True, timeout=PATIENCE,
            ).stdout  # fmt: skip
            assert f"DNS:{name}" in text


def test_client_certificates_and_versions(tmp_path: Path, authority: trustme.CA) -> None:
    """Without a certificate of the authority, or with an old version, no client gets in."""
    chain, key = write_pair(tmp_path, authority, "localhost")
    options = ["--tls-cert", chain, "--tls-key", key, "--tls-client-ca", write_authority(tmp_path, authority)]
    with serving("echo", "--host", "localhost", *options, "--tls-minimum-version", "1.3") as server:
        url = f"wss://localhost:{server.port}"
        known = trusting(authority, certificate=authority.issue_cert("ann"))
        with secured(url, ssl=known) as client:
            assert echoes(client)
        with (
            pytest.raises((OSError, WebSocketException)),  # which one, is OpenSSL's choice
            secured(url, ssl=trusting(authority)),
        ):
            pass
        known.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError), secured(url, ssl=known):
            pass


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tls-client-ca", "a.pem"], "--tls-client-ca needs --tls-cert as well"),
        (["--tls-client-ca", ""], "--tls-client-ca needs --tls-cert as well"),
        (["--tls-cert", "a.pem", "--tls-client-ca", "no.pem"], "--tls-client-ca: cannot read no.pem"),
        (["--tls-cert", "a.pem", "--tls-key", "pipe"], "cannot read pipe: not a regular file"),
        (["--tls-cert", "a.pem", "--tls-client-ca", "text"], "--tls-client-ca: text holds no certificate"),
        (
            ["--tls-cert", "a.pem", "--tls-cert", "b.pem", "--tls-key", "a-key.pem"],
            "give a --tls-key for each --tls-cert: there are 1 for 2",
        ),
        (["--tls-minimum-version", "1.1"], "'1.1' is not one of '1.2', '1.3'"),
    ],
)
def test_a_mistake_is_one_line(
    tmp_path: Path, authority: trustme.CA, arguments: list[str], words: str
) -> None:
    """It says what is wrong, and the exit status is 2."""
    for name in ("a", "b"):
        write_pair(tmp_path, authority, "localhost", file=name)
    (tmp_path / "text").write_text("text")
    os.mkfifo(tmp_path / "pipe")
    ended = run("serve", "echo", "--port", "0", "--log-level", "warning", *arguments, cwd=tmp_path)
    assert ended.status == 2
    assert words in ended.errors
    assert len(ended.errors.splitlines()) == 1
