"""A connection, and a whole server, without sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial

import attrs
import trio

from ..concurrency.background import background
from ..connection import Connection
from ..headers import pairs
from ..server.app import App, as_app
from ..server.options import Handler, ProcessRequest, Readiness, always_ready
from ..server.server import Server
from ..server.serving import serve
from ..settings import Settings
from .peers import Peer
from .streams import DEFAULT_CAPACITY, MemoryStream, memory_streams
from .trial import cancelled_here, in_trial


class MemoryServer:
    """A server that ``connect`` reaches; ``server`` is what ``serve`` gives."""

    server: Server

    def __init__(self, listener: MemoryListener, nursery: trio.Nursery) -> None:
        self._listener = listener
        self._nursery = nursery
        self._scopes: list[trio.CancelScope] = []

    async def connect(
        self,
        path: str = "/",
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        subprotocols: Sequence[str] = (),
        capacity: int = DEFAULT_CAPACITY,
    ) -> Peer:
        """Connect a client that is there until the server's block ends.

        Raises:
            HandshakeRefused: the server answered with something else than 101.
            ConnectionClosed: the server ended the stream without an answer.
            trio.BrokenResourceError: the server has stopped.
        """
        stream = await self.connect_raw(capacity)
        peer = Peer(stream)
        try:
            await peer.open(path, pairs(headers), subprotocols)
        except BaseException:
            stream.abort()  # the server need not wait for a client that does not exist
            raise
        self._nursery.start_soon(self._run_peer, peer, name="peer")
        return peer

    async def connect_raw(self, capacity: int = DEFAULT_CAPACITY) -> MemoryStream:
        """A connected stream on which nothing was said yet. Raises BrokenResourceError, as ``connect``."""
        return await self._listener.connect(capacity)

    async def _run_peer(self, peer: Peer) -> None:
        # Shielded: a client answers the Close of a server that is being cancelled.
        with trio.CancelScope(shield=True) as scope:
            self._scopes.append(scope)
            await peer.run()

    def disconnect_all(self) -> None:
        """Stop the clients from reading."""
        for scope in self._scopes:
            scope.cancel()


class MemoryListener(trio.abc.Listener[MemoryStream]):
    """Accepts the connections that ``connect`` makes."""

    def __init__(self) -> None:
        self._knock, self._door = trio.open_memory_channel[MemoryStream](0)

    async def connect(self, capacity: int = DEFAULT_CAPACITY) -> MemoryStream:
        """The client's end of a new connection. Raises BrokenResourceError if the listener is closed."""
        ours, theirs = memory_streams(capacity)
        await self._knock.send(ours)
        return theirs

    async def accept(self) -> MemoryStream:
        return await self._door.receive()

    async def aclose(self) -> None:
        await self._door.aclose()


@asynccontextmanager
async def serve_in_memory(
    handler: Handler | App,
    *,
    settings: Settings | None = None,
    process_request: ProcessRequest | Sequence[ProcessRequest] | None = None,
    cancel_on_disconnect: bool = False,
    readiness: Readiness = always_ready,
    victim: str | None = None,
) -> AsyncIterator[MemoryServer]:
    """Serve without sockets for the length of the block.

    The arguments are ``serve``'s, but for ``victim``, a path, with or without its query. In a scenario of
    ``cancel_everywhere`` the handler of the connection to that path is what is cancelled, at every point
    from its beginning to its end, while the scenario and all other connections go on. Elsewhere nothing is.

    When the block ends, or is cancelled, the server stops as it does when it is cancelled: it sends Close
    and waits up to the grace period; then the clients are gone. What the block raises comes out as itself.

    Raises AssertionError at the end of the block if there was no connection to ``victim``, and TypeError if
    the application has no handler that could be one.
    """
    listener = MemoryListener()
    app = as_app(handler)
    one = None
    if victim is not None:
        if app.handler is None:
            raise TypeError("a victim is a connection of a handler, which this application has not")
        one = Victim(victim, app.handler)
        hooks = app.hooks(process_request)
        app, process_request = attrs.evolve(app, handler=one, process_request=hooks), None
    start = partial(
        serve,
        app,
        listeners=[listener],
        settings=settings,
        process_request=process_request,
        cancel_on_disconnect=cancel_on_disconnect,
        readiness=readiness,
    )
    async with background() as clients:
        memory = MemoryServer(listener, clients)
        try:
            async with background() as nursery:
                memory.server = await nursery.start(start)
                yield memory
        finally:
            memory.disconnect_all()
    if one is not None and not one.came:
        raise AssertionError(f"there was no connection to {victim!r}, so no handler was cancelled")


@attrs.define(eq=False)
class Victim:
    """A handler that ``cancel_everywhere`` cancels in connections to one path."""

    path: str
    handler: Handler
    came: bool = False

    async def __call__(self, connection: Connection) -> None:
        request = connection.request
        if self.path not in (request.path, request.target):
            await self.handler(connection)
            return
        self.came = True
        with cancelled_here() if in_trial() else nullcontext():
            await self.handler(connection)


@asynccontextmanager
async def connected_pair(
    *, settings: Settings | None = None, path: str = "/", capacity: int = DEFAULT_CAPACITY
) -> AsyncIterator[tuple[Connection, Peer]]:
    """Two connected ends: the connection as a handler gets it, and the client that it talks to.

    ``capacity`` is how many bytes are on their way in each direction until sending waits. At the end of the
    block both ends are gone, without a closing handshake.
    """
    over = trio.Event()

    async def handler(_: Connection) -> None:
        await over.wait()

    async with serve_in_memory(handler, settings=settings) as memory:
        peer = await memory.connect(path, capacity=capacity)
        (connection,) = memory.server.connections
        try:
            yield connection, peer
        finally:
            peer.stream.abort()
            over.set()
