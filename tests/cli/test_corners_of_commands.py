"""Missing extras, and sockets that others have left: each is one line, or no matter."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import trustme
from certificates import write_pair

from trio_ws_app.cli.configuration import certificates_for
from trio_ws_app.cli.listeners import bind_tcp, bind_unix
from trio_ws_app.cli.observability import configure_observability, configure_tracing
from trio_ws_app.cli.top import top_command
from trio_ws_app.cli.top_live import View
from trio_ws_app.errors import UsageError
from trio_ws_app.observability.inspection.snapshot import Query


def with_metrics() -> object:
    return configure_observability(None, control=None, control_token=None, metrics="on")


def with_top() -> None:
    top_command.main(["app.sock", "--once"], standalone_mode=False)


@pytest.mark.parametrize(
    ("missing", "call", "extra"),
    [
        ("trio_ws_app.observability.tracing", configure_tracing, "tracing"),
        ("trio_ws_app.observability.metrics", with_metrics, "metrics"),
        ("rich", with_top, "top"),
    ],
    ids=["tracing", "metrics", "top"],
)
def test_a_missing_extra_is_said(
    missing: str, call: Callable[[], object], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=rf"pip install 'trio-ws-app\[{extra}\]'"):
        call()


def test_several_certificates_need_an_extra(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which reads the names in them; one certificate needs none."""
    pairs = [write_pair(tmp_path, authority, name) for name in ("a.example", "b.example")]
    chains, keys = zip(*pairs, strict=True)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    certificates_for(chains[:1], keys[:1], client_ca=None, minimum_version="1.2")
    with pytest.raises(UsageError, match=r"pip install 'trio-ws-app\[tls\]'"):
        certificates_for(chains, keys, client_ca=None, minimum_version="1.2")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    """One that a server listens on is not, unless that is asked for."""
    path = str(tmp_path / "app.sock")
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    with closing(bind_unix(path)) as first:
        first.listen()
        with pytest.raises(UsageError, match=r"listens on the Unix socket .* already"):
            bind_unix(path)
        with closing(bind_unix(path, replace=True)) as second:
            second.listen()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)


def test_a_datagram_socket_is_not_replaced(tmp_path: Path) -> None:
    """It is another program's, and in use for all that can be known."""
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        with pytest.raises(UsageError, match="already"):
            bind_unix(path)
    assert Path(path).is_socket()


def test_a_socket_that_cannot_be_given_away_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for any user but root."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(UsageError, match="Operation not permitted"):
        bind_unix(str(tmp_path / "app.sock"), owner=(1, 1))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("no-such-host.invalid", "is unknown"),
        ("a..b", "is unknown"),
        ("a" * 70 + ".b", "is unknown"),
        ("\udcff", "is unknown"),
        ("203.0.113.1", "is not an address of this machine"),
    ],
)
def test_a_host_that_is_not_here_is_one_line(host: str, words: str) -> None:
    """It says what to give instead."""
    with pytest.raises(UsageError, match=words) as caught:
        bind_tcp([host], 0)
    assert "--host" in str(caught.value)


def test_what_is_typed_filters_the_live_view() -> None:
    """Letter by letter, and back; keys without a letter change nothing."""
    view = View(Query())
    assert view.press("i")
    assert view.internals
    for key in ("/", "a", "b", "\x7f", "\x1b[A", "c", "\r"):
        assert view.press(key)
    assert (view.query.filter, view.typing) == ("ac", False)
    assert not view.press("q")
