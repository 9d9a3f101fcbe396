"""``serve``: a server as one async function, whose cancellation becomes an orderly stop."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..asgi.lifespan import open_lifespan
from ..callbacks import interrupt_in
from ..settings import Settings
from .app import App, as_app, hooks_in
from .draining import Stop
from .listeners import Listener, open_tcp_listeners
from .options import Handler, Options, ProcessRequest, Readiness, always_ready
from .server import Server, run_server
from .tracing import Tracing

_LOCALHOST = "127.0.0.1"


@enable_ki_protection
async def serve(
    handler: Handler | App,
    port: int | None = None,
    *,
    host: str | None = _LOCALHOST,
    ssl_context: ssl.SSLContext | None = None,
    settings: Settings | None = None,
    process_request: ProcessRequest | Sequence[ProcessRequest] | None = None,
    listeners: Sequence[Listener] | None = None,
    cancel_on_disconnect: bool = False,
    readiness: Readiness = always_ready,
    tracing: Tracing | None = None,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve WebSocket connections: each runs ``handler(connection)`` in a task of its own.

    In place of a handler it takes an ``App``, which has some of these arguments itself: its
    ``process_request`` comes after the one given here, its ``readiness`` is asked if that given here is
    content, and either may ask for ``cancel_on_disconnect``.

    ``port`` 0 takes a free one; ``host`` None listens on every address. ``listeners`` are used instead
    of them: Trio's listeners of any kind, which are closed at the end. ``ssl_context`` turns on TLS
    for sockets. ``process_request(request)``, plain or async, runs before the upgrade and returns None,
    or a ``Response`` to answer with; of a list, the first answer counts. The handler runs in a copy of its
    context, and finds in ``request.state`` what it has put there. With ``cancel_on_disconnect`` a handler is
    cancelled when its peer is gone; without it learns at its next ``receive`` or ``send``. ``readiness()``
    says in one line what the application lacks just now, such as its broker, or None: ``/readyz`` answers
    503 with it. ``tracing`` is an ``OpenTelemetry`` of ``trio_ws_app.observability.tracing``, or the like.

    Use it with ``server = await nursery.start(serve, handler, port)``. Returns after ``Server.drain``.
    What a handler or a hook raises costs its own connection, which gets 1011 (a request: 500), and is
    logged; nothing else is affected (G5). An error with a ``close_code`` is logged in one line and closes
    with that. KeyboardInterrupt and SystemExit stop the server as a cancellation does, and are raised here
    afterwards.

    When cancelled, it refuses new connections, closes the others with 1001, waits up to ``grace_period`` for
    the handlers, cancels those that are left, and ends when they have (G7, G8). Ctrl-C does the same if this
    is the main task, and cuts it short when it comes again.

    Raises:
        OSError: the address can't be listened on.
        TypeError: neither a port nor listeners were given, or both, or the handler is no async function.
        RuntimeError: this does not run in Trio.
    """
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError("serve runs in Trio: write trio.run(ws.serve, handler, port), not asyncio.run")
    app = as_app(handler)
    _check_address(port, host, ssl_context, listeners)
    settings = settings or Settings()
    if app.json is not None:
        settings = attrs.evolve(settings, json=app.json)
    async with open_lifespan(app.http, settings.grace_period) as state:
        options = Options(
            app.handler,
            settings,
            ssl_context,
            app.hooks(process_request),
            lambda: readiness() or app.readiness(),
            cancel_on_disconnect or app.cancel_on_disconnect,
            app.http,
            hooks_in(process_request),
            tracing,
            state,
        )
        await _serve(options, port, host, listeners, task_status)


async def _serve(
    options: Options,
    port: int | None,
    host: str | None,
    listeners: Sequence[Listener] | None,
    task_status: trio.TaskStatus[Server],
) -> None:
    stop = Stop(options.settings.grace_period)
    owned = port is not None
    opened = await open_tcp_listeners(port, host) if port is not None else listeners or ()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_server, options, opened, stop, owned, task_status)
            await stop.watch()
    except BaseExceptionGroup as group:
        stop.interrupt = stop.interrupt or interrupt_in(group)
        if stop.interrupt is None:
            raise
    if stop.interrupt is not None:
        raise stop.interrupt


def _check_address(
    port: int | None,
    host: str | None,
    ssl_context: ssl.SSLContext | None,
    listeners: Sequence[Listener] | None,
) -> None:
    if listeners is None:
        if port is None:
            raise TypeError("serve needs a port, or listeners=")
    elif not listeners:
        raise TypeError("listeners= is empty")
    elif port is not None or host != _LOCALHOST:
        raise TypeError("serve takes a port (and host=) or listeners=, which have an address of their own")
    elif ssl_context and not all(isinstance(listener, trio.SocketListener) for listener in listeners):
        raise TypeError("ssl_context= is for sockets: wrap listeners of other kinds in trio.SSLListener")
