"""``serve``: a server as one async function, whose cancellation becomes a goodbye."""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Callable, Sequence

import trio

from ..settings import Settings
from .admission import ProcessRequest, Rules
from .contain import Handler
from .server import Server


async def serve(
    handler: Handler,
    port: int | None = None,
    *,
    host: str | None = "127.0.0.1",
    ssl_context: ssl.SSLContext | None = None,
    settings: Settings | None = None,
    process_request: ProcessRequest | None = None,
    listeners: Sequence[trio.abc.Listener[trio.abc.Stream]] | None = None,
    cancel_on_disconnect: bool = False,
    problem: Callable[[], str | None] = lambda: None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve WebSocket connections: each runs ``handler(connection)`` in a task of its own.

    ``port`` 0 takes a free one; ``host`` None listens on every address. ``listeners`` are used instead
    where given: Trio's listeners of any kind, which are closed at the end. ``ssl_context`` turns on TLS
    for sockets. ``process_request(request)``, plain or async, runs before the upgrade and returns None,
    or a ``Response`` to answer with. With ``cancel_on_disconnect`` a handler is cancelled when its
    peer is gone; without it learns at its next ``receive`` or ``send``. ``problem()`` says in one line
    what the application lacks just now, such as its broker, or None: ``/readyz`` answers 503 with it.

    Use it with ``server = await nursery.start(serve, handler, port)``. Returns after ``Server.drain``.
    A handler's exception closes its connection with 1011 and is logged; nothing else is affected (G5).

    When cancelled, it refuses new connections, says goodbye with 1001, waits up to ``grace_period`` for
    the handlers, cancels those that are left, and ends when they have (G7, G8).

    Raises:
        OSError: the address can't be listened on.
        TypeError: neither a port nor listeners were given, or the handler is no async function.
    """
    _check_handler(handler)
    if listeners is None:
        if port is None:
            raise TypeError("serve needs a port, or listeners=")
        listeners = await trio.open_tcp_listeners(port, host=host)
    rules = Rules(settings or Settings(), ssl_context, process_request, problem)
    server = Server(handler, rules, cancel_on_disconnect)
    async with trio.open_nursery() as nursery:
        # The server is shielded and watched from here, so a cancellation becomes a goodbye, also one
        # that comes while it starts.
        nursery.start_soon(server.run, listeners)
        try:
            await server._ready.wait()
            task_status.started(server)
            await server._finished.wait()
        finally:
            server.request_stop()


def _check_handler(handler: object) -> None:
    call = getattr(handler, "__call__", None)  # noqa: B004  # an object with an async __call__
    function = handler
    while hasattr(function, "func"):
        function = function.func
    if not inspect.iscoroutinefunction(function) and not inspect.iscoroutinefunction(call):
        raise TypeError(f"the handler must be an async function that takes a connection, not {handler!r}")
