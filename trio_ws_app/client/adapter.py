"""trio-websocket's connections as ours: ``from_trio_websocket(connection)``.

The ``README.md`` beside this file says how the adapter works, and what trio-websocket cannot keep.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import trio
import trio_websocket

from ..connection import Connection
from ..request import Headers, Request
from ..settings import Settings
from .adapted import AdaptedConnection


def from_trio_websocket(
    connection: trio_websocket.WebSocketConnection,
    request: trio_websocket.WebSocketRequest | None = None,
    *,
    settings: Settings | None = None,
) -> Connection:
    """Adapt a trio-websocket connection, client or server, whose opening handshake is done.

    ``request`` is the one that a server has accepted: it has the headers. Of the settings,
    ``max_inbox_bytes``, ``max_queue_bytes``, ``close_timeout`` and ``send_timeout`` (for pings) apply.

    The adapter's tasks run in the nursery that runs trio-websocket's reader. Which promises trio-websocket
    cannot keep is listed in ``trio_ws_app/client/README.md``.
    """
    return AdaptedConnection(
        connection,
        None if connection.closed else _reader_nursery(connection),
        remote=_remote_text(connection),
        request=_request_of(connection, request),
        settings=settings or Settings(),
    )


def _request_of(
    connection: trio_websocket.WebSocketConnection, request: trio_websocket.WebSocketRequest | None
) -> Request:
    fields = request.headers if request is not None else []
    headers = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in fields)
    return Request("GET", connection.path or "/", headers)


def _remote_text(connection: trio_websocket.WebSocketConnection) -> str:
    try:
        remote = connection.remote
    except (OSError, ValueError):  # the peer is gone already; or a Unix socket, whose address is no pair
        return "unknown"
    if isinstance(remote, str):
        return remote
    host = f"[{remote.address}]" if remote.address.version == 6 else str(remote.address)
    return f"{host}:{remote.port}"


def _reader_nursery(connection: trio_websocket.WebSocketConnection) -> trio.Nursery | None:
    """The nursery in which trio-websocket reads from the connection; None when it does so no more."""
    for task in _tasks_nearest_first():
        coroutine = task.coro
        if (
            inspect.iscoroutine(coroutine)
            and coroutine.__name__ == "_reader_task"
            and inspect.getcoroutinelocals(coroutine).get("self") is connection
        ):
            return task.parent_nursery
    return None


def _tasks_nearest_first() -> Iterator[trio.lowlevel.Task]:
    """The children of the current task and of its ancestors, then all other tasks."""
    ancestor: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    while ancestor is not None:
        for nursery in reversed(ancestor.child_nurseries):
            yield from nursery.child_tasks
        ancestor = ancestor.parent_nursery.parent_task if ancestor.parent_nursery else None
    unseen = [trio.lowlevel.current_root_task()]
    while unseen:
        task = unseen.pop()
        if task is not None:
            yield task
            unseen += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
