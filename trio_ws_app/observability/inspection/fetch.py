"""Snapshots of a running server, over its control socket or over HTTP with its token, and of all workers."""

from __future__ import annotations

import http.client
import logging
import os
import socket
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from http import HTTPStatus
from urllib.parse import urlencode, urlsplit

import trio

from ...errors import UsageError
from ..escaping import escaped
from .hook import PATH, Inspector
from .snapshot import Query, Snapshot, from_json

logger = logging.getLogger("trio_ws_app.metrics")

TIMEOUT = 5.0
_MAX_SNAPSHOT = 256 * 1024 * 1024
_COUNTS_ONLY = Query(limit=0)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


def fetch(where: str, query: Query, token: str | None = None) -> Snapshot:
    """A snapshot from ``where``: a control socket's path, or the server's ``http(s)://`` address.

    Blocks, for up to five seconds at a time. Raises UsageError, with what to do, when there is no answer.
    """
    fields = {
        "sort": query.sort,
        "filter": query.filter,
        "limit": "" if query.limit is None else query.limit,
        "tasks": int(query.tasks),
    }
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with closing(_connection(where)) as connection:
            below = urlsplit(where).path.rstrip("/") if _is_url(where) else ""
            connection.request("GET", f"{below}{PATH}?{urlencode(fields)}", headers=headers)
            response = connection.getresponse()
            body = response.read(_MAX_SNAPSHOT)
    except (OSError, http.client.HTTPException, ValueError) as problem:  # ValueError: what can be no URL
        raise UsageError(_unreachable(where, problem)) from None
    if response.status != HTTPStatus.OK:
        raise UsageError(_refused(where, response.status, body))
    try:
        return from_json(body)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise UsageError(f"{where} answers, but with no snapshot: is it a server of this version?") from None


def _is_url(where: str) -> bool:
    return where.startswith(("http://", "https://"))


def _connection(where: str) -> http.client.HTTPConnection:
    if not _is_url(where):
        return _UnixConnection(where)
    url = urlsplit(where)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return kind(url.netloc, timeout=TIMEOUT)


def _unreachable(where: str, problem: Exception) -> str:
    if not _is_url(where) and not os.path.exists(where):
        return f"there is no control socket {where}: start the server with --control {where}"
    return f"no server answers at {where}: {getattr(problem, 'strerror', None) or problem}"


def _refused(where: str, status: int, body: bytes) -> str:
    if status == HTTPStatus.UNAUTHORIZED:
        return f"{where} wants the server's --control-token: give it with --token"
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.UPGRADE_REQUIRED):
        return f"the server at {where} does not let itself be inspected: start it with --control-token"
    text = escaped(body.decode(errors="replace").strip()[:200])
    return f"{where} answers with HTTP status {status}: {text}"


async def gather(inspector: Inspector, siblings: Sequence[str]) -> list[Snapshot]:
    """This process's counts and those of its siblings, which answer on these control sockets.

    One that does not answer, because it is starting anew, is left out.
    """
    own = inspector.snapshot(_COUNTS_ONLY)
    found = [] if own is None else [own]

    async def ask(path: str) -> None:
        try:
            found.append(
                await trio.to_thread.run_sync(partial(fetch, path, _COUNTS_ONLY), abandon_on_cancel=True)
            )
        except UsageError as problem:
            logger.debug("a worker is left out: %s", problem)

    async with trio.open_nursery() as nursery:
        for path in siblings:
            nursery.start_soon(ask, path)
    return sorted(found, key=lambda snapshot: snapshot.worker)
