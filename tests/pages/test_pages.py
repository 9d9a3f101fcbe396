"""What ``process_request`` answers to a browser that asks for no WebSocket."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import BinaryIO

import pytest
import trio
from running import PATIENCE

from trio_ws_app import pages
from trio_ws_app.apps import BUILT_IN
from trio_ws_app.pages import page_for, static_files
from trio_ws_app.request import Headers, Request


def get(target: str, method: str = "GET", **headers: str) -> Request:
    """A plain HTTP request."""
    return Request(method, target, Headers(headers.items()))


@pytest.mark.parametrize("app", BUILT_IN)
def test_every_built_in_app_has_a_page(app: str) -> None:
    """The page is HTML with a strict policy, and every file that it names is served beside it."""
    page = page_for(app)
    answer = page(get("/"))
    assert answer is not None
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    text = answer.body.decode()
    assert "://" not in text, "the page loads nothing from elsewhere"
    for name in ("style.css", f"{app}.js", "icon.svg"):
        assert f'"{name}"' in text
        assert page(get(f"/{name}")) is not None
    assert page(get("/socket.js")) is not None


def test_a_page_leaves_everything_else_to_the_server() -> None:
    """Other paths, other methods and WebSocket handshakes are not answered."""
    page = page_for("echo")
    assert page(get("/elsewhere")) is None
    assert page(get("/chat.html")) is None
    assert page(get("/", "POST")) is None
    assert page(get("/", upgrade="websocket")) is None
    assert page(get("/?name=ada")) is not None


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A small directory to serve, with a secret beside it."""
    (tmp_path / "secret.txt").write_text("secret")
    site = tmp_path / "site"
    (site / "sub").mkdir(parents=True)
    (site / "index.html").write_text("<p>home")
    (site / "sub" / "index.html").write_text("<p>sub")
    (site / "app.js").write_text("let x;")
    (site / "with blank.css").write_text("p {}")
    (site / "data.json.gz").write_bytes(b"\x1f\x8b")
    (site / ".env").write_text("secret")
    (site / "link.txt").symlink_to(tmp_path / "secret.txt")
    return site


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/sub", "text/html; charset=utf-8"),
        ("/sub/", "text/html; charset=utf-8"),
        ("/app.js?v=2", "text/javascript; charset=utf-8"),
        ("/with%20blank.css", "text/css; charset=utf-8"),
        ("/data.json.gz", "application/octet-stream"),
    ],
)
async def test_own_files_are_served_with_their_type(site: Path, target: str, kind: str) -> None:
    """A directory is served with the right content types and no guessing by the browser."""
    answer = await static_files(site)(get(target))
    assert answer is not None
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "target",
    [
        "/missing.txt",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/sub/../../secret.txt",
        "//etc/passwd",
        "/.env",
        "/%2eenv",
        "/link.txt",
        "/app.js%00.html",
        "/" + "x" * 5000,
    ],
)
async def test_nothing_outside_the_directory_is_served(site: Path, target: str) -> None:
    """Dots, hidden files, links to the outside and impossible names lead nowhere."""
    assert await static_files(site)(get(target)) is None


@pytest.mark.parametrize("name", ["pipe", "pipe.html", "socket", "device"])
async def test_what_is_no_regular_file_is_not_there(site: Path, name: str) -> None:
    """A pipe, a socket or a device is neither served nor opened, which could wait for ever."""
    if name == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(site / name))
    elif name == "device":
        (site / name).symlink_to("/dev/zero")
    else:
        os.mkfifo(site / name)
    with trio.fail_after(PATIENCE):
        assert await static_files(site)(get(f"/{name}")) is None


async def test_an_index_that_is_a_pipe_is_not_there(site: Path) -> None:
    """A folder's page is looked at like any other."""
    (site / "index.html").unlink()
    os.mkfifo(site / "index.html")
    with trio.fail_after(PATIENCE):
        assert await static_files(site)(get("/")) is None


async def test_a_slow_file_system_does_not_hold_up_the_end(
    site: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """A read that takes for ever is left alone when its request is cancelled."""
    del autojump_clock
    released = threading.Event()

    def open_slowly(_file: Path) -> BinaryIO:
        released.wait(60)
        raise OSError

    monkeypatch.setattr(pages, "open_regular", open_slowly)
    with trio.move_on_after(1) as scope:
        await static_files(site)(get("/app.js"))
    assert scope.cancelled_caught
    released.set()


async def test_only_a_plain_get_asks_for_a_file(site: Path) -> None:
    """A WebSocket handshake for the path of a file goes on to the handler."""
    static = static_files(site)
    assert await static(get("/", upgrade="websocket")) is None
    assert await static(get("/", "DELETE")) is None
    assert await static(get("/", "HEAD")) is not None


async def test_a_stripped_handshake_asks_for_no_page(site: Path) -> None:
    """A key without Upgrade, which a proxy has removed, goes on to the handshake, which says so."""
    request = Request("GET", "/", Headers([("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]))
    assert page_for("echo")(request) is None
    assert await static_files(site)(request) is None


@pytest.mark.parametrize("name", ["socket.js", "style.css", "icon.svg"])
async def test_own_pages_find_what_the_built_in_ones_share(site: Path, name: str) -> None:
    """A page of one's own needs no copy; one that is there comes first."""
    static = static_files(site)
    shared = await static(get(f"/{name}"))
    assert shared is not None
    assert shared.body == (Path(pages.__file__).parent / name).read_bytes()
    (site / name).write_text("own")
    own = await static(get(f"/{name}"))
    assert own is not None
    assert own.body == b"own"
    assert await static(get(f"/sub/{name}")) is None
