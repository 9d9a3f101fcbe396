"""Pages over the same port: what ``process_request`` answers to a browser that asks for no WebSocket."""

from __future__ import annotations

import mimetypes
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path, PurePosixPath

import trio

from ..regular_files import open_regular
from ..request import Request, Response

_SHARED = ("socket.js", "channels.js", "conversation.js", "log.js", "style.css", "icon.svg")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}
_TYPES = mimetypes.MimeTypes()
_TYPES.add_type("text/javascript", ".js")


def page_for(app: str) -> Callable[[Request], Response | None]:
    """A hook that answers ``/`` with the page of the built-in ``app``, and the paths that the page loads."""
    package = files(__name__)
    names = {"/": f"{app}.html", f"/{app}.js": f"{app}.js"} | {f"/{name}": name for name in _SHARED}
    answers = {
        path: _response(name, (package / name).read_bytes(), _PAGE_HEADERS) for path, name in names.items()
    }

    def page(request: Request) -> Response | None:
        return answers.get(request.path) if _asks_for_a_file(request) else None

    return page


def static_files(directory: str | Path) -> Callable[[Request], Awaitable[Response | None]]:
    """A hook that answers with the files below ``directory``; a folder answers with its ``index.html``.

    ``/socket.js``, ``/channels.js``, ``/style.css`` and ``/icon.svg`` are what the built-in pages share, if
    the directory has no such file.

    Files whose names start with a dot, what is no regular file, and links that lead outside are not served.
    A file is read whole into memory: this is for a page and what it loads, not for downloads.
    """
    root = Path(directory).resolve()

    def read(path: str) -> Response | None:
        relative = PurePosixPath(path.lstrip("/"))
        if any(part.startswith(".") for part in relative.parts):
            return None
        with suppress(OSError, ValueError):  # missing, unreadable, or a name that no file can have
            file = (root / relative).resolve()
            if file.is_dir():
                file = (file / "index.html").resolve()
            if file.is_relative_to(root):
                with open_regular(file) as opened:
                    return _response(file.name, opened.read(), {})
        name = path.removeprefix("/")
        return _response(name, (files(__name__) / name).read_bytes(), {}) if name in _SHARED else None

    async def static(request: Request) -> Response | None:
        if not _asks_for_a_file(request):
            return None
        # A file system may take for ever, which must not hold up a server that drains.
        return await trio.to_thread.run_sync(read, request.path, abandon_on_cancel=True)

    return static


def _asks_for_a_file(request: Request) -> bool:
    # A proxy that removes Upgrade leaves the key: the handshake's answer says so, a page would hide it.
    upgrade = "upgrade" in request.headers or "sec-websocket-key" in request.headers
    return request.method in ("GET", "HEAD") and not upgrade


def _response(name: str, body: bytes, headers: dict[str, str]) -> Response:
    kind, encoding = _TYPES.guess_type(name)
    if kind is None or encoding is not None:
        kind = "application/octet-stream"
    charset = "; charset=utf-8" if kind.startswith("text/") else ""
    common = {
        "Content-Type": kind + charset,
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(200, body, common | headers)
