"""``connect``: outgoing connections, on trio-websocket's client."""

from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from math import inf

import attrs
import h11
import trio
import trio_websocket
from wsproto.utilities import ProtocolError

from ..concurrency.background import background
from ..concurrency.running_time import wait_running
from ..connection import Connection
from ..errors import CloseCode, CloseReason, ConnectionClosed
from ..headers import pairs
from ..protocol.header_lists import is_token
from ..protocol.url import Target, parse_url
from ..request import Headers, Request
from ..settings import Settings
from .adapted import AdaptedConnection
from .keepalive import Keepalive
from .stream import ClientStream, shut_down

OpenStream = Callable[[], Awaitable[trio.abc.Stream]]

_OWN_HEADERS = frozenset({"host", "connection", "upgrade"})
_READ_SIZE = 64 * 1024


@asynccontextmanager
async def connect(
    url: str,
    *,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    ssl_context: ssl.SSLContext | None = None,
    open_stream: OpenStream | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[Connection]:
    """Connect to a WebSocket server for the length of a block: ``async with connect(url) as connection``.

    ``url`` is ``ws://`` or ``wss://``; a user and password in it become basic authentication. ``headers``
    are sent with the request, ``subprotocols`` are offered, the preferred one first. ``ssl_context`` is for
    ``wss://`` (default: certificates of public authorities). ``open_stream`` opens the way to the server
    if it is not TCP: ``partial(trio.open_unix_socket, "/run/app.sock")``. Of ``settings``, the limits on
    messages, queues and times apply, keepalive included.

    Leaving the block closes the connection with 1000 and waits for the server's Close up to
    ``close_timeout``; if it is cancelled, the connection is dropped. No redirect is followed. What the block
    raises comes out as it is, also while it is cancelled.

    Raises:
        ValueError: the URL, a header or a subprotocol is not valid; nothing was sent.
        OSError: the server cannot be reached; ``ssl.SSLError`` when it cannot be trusted.
        trio.TooSlowError: there is no connection after ``open_timeout``.
        HandshakeRefused: the server answered, but not with a WebSocket.
        ConnectionClosed: the server hung up (1006), also before the request was sent, or sent no valid
            handshake (1002).
    """
    target = parse_url(url)
    if ssl_context is not None and not target.secure:
        raise ValueError(f"{url!r} is not encrypted: leave out ssl_context, or write wss://")
    attempt = _Attempt(
        target,
        _request(target, list(pairs(headers)), subprotocols),
        tuple(subprotocols),
        ssl_context,
        open_stream or partial(trio.open_tcp_stream, target.host, target.port),
        settings or Settings(),
    )
    async with background() as nursery:
        connection = await attempt.open(nursery)
        async with closing(connection):
            yield connection


@asynccontextmanager
async def closing(resource: trio.abc.AsyncResource) -> AsyncIterator[None]:
    """Close ``resource`` when the block ends; what the block raises comes out even if that is cancelled."""
    try:
        yield
    except BaseException:
        with suppress(trio.Cancelled):
            await resource.aclose()
        raise
    await resource.aclose()


def _request(target: Target, fields: list[tuple[str, str]], subprotocols: Sequence[str]) -> Request:
    """The request for ``target``. Raises ValueError for headers and subprotocols that cannot be sent."""
    names = {name.lower() for name, _ in fields}
    for name in names:
        if name in _OWN_HEADERS or name.startswith("sec-websocket-"):
            raise ValueError(f"the header {name} is the handshake's own: it cannot be given")
    if target.authorization is not None and "authorization" not in names:
        fields = [*fields, ("Authorization", target.authorization)]
    try:
        h11.Request(method="GET", target=target.resource, headers=[("Host", target.host_header), *fields])
    except (h11.LocalProtocolError, UnicodeError) as error:
        raise ValueError(f"a header cannot be sent: {error}") from None
    for subprotocol in subprotocols:
        if not is_token(subprotocol):
            raise ValueError(f"{subprotocol!r} cannot be the name of a subprotocol")
    return Request("GET", target.resource, Headers(fields))


@attrs.frozen
class _Attempt:
    """One attempt to connect, and the task that runs the connection."""

    target: Target
    request: Request
    subprotocols: tuple[str, ...]
    ssl_context: ssl.SSLContext | None
    open_stream: OpenStream
    settings: Settings

    async def open(self, nursery: trio.Nursery) -> Connection:
        """Start the task in ``nursery``, and return the connection when it is open."""
        opened = trio.Event()
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel_unless, opened, self.settings.open_timeout or inf, scope)
            connection: Connection = await nursery.start(self._run)
            opened.set()
            return connection
        raise trio.TooSlowError

    async def _run(self, task_status: trio.TaskStatus[Connection]) -> None:
        """Run trio-websocket's reader until cancelled. Nothing that it raises reaches the caller."""
        stream = ClientStream(await self._open_stream(), self.settings.send_timeout)
        connection: AdaptedConnection | None = None
        try:
            async with trio.open_nursery() as nursery:
                async with trio.open_nursery() as opening:
                    # trio-websocket would wait for ever when the server hangs up during the handshake.
                    opening.start_soon(_cancel_at_end, stream, opening.cancel_scope)
                    connection = await self._handshake(nursery, stream)
                    opening.cancel_scope.cancel()
                if connection is not None:
                    stream.handshake_done()
                    task_status.started(connection)
                    await self._keep_alive(nursery, connection, stream)
                nursery.cancel_scope.cancel()
        except* (ProtocolError, h11.ProtocolError, trio_websocket.HandshakeError):
            pass  # its reader fails on what it did not expect: either no handshake, or the end
        finally:
            await trio.aclose_forcefully(stream)
        if connection is None:
            raise stream.handshake_error()

    async def _open_stream(self) -> trio.abc.Stream:
        """The stream to the server, with TLS if the URL says so."""
        stream = await self.open_stream()
        if not self.target.secure:
            return stream
        context = self.ssl_context or ssl.create_default_context()
        secured = trio.SSLStream(stream, context, server_hostname=self.target.host, https_compatible=True)
        try:
            await secured.do_handshake()
        except BaseException as error:
            shut_down(stream)
            await trio.aclose_forcefully(stream)
            if not isinstance(error, trio.BrokenResourceError):
                raise
            if isinstance(error.__cause__, ssl.SSLError):
                raise error.__cause__ from None
            raise ConnectionClosed(
                CloseReason(CloseCode.ABNORMAL, "the server hung up during the TLS handshake")
            ) from None
        return secured

    async def _handshake(self, nursery: trio.Nursery, stream: ClientStream) -> AdaptedConnection:
        peer = await trio_websocket.wrap_client_stream(
            nursery,
            stream,  # type: ignore[arg-type]  # any stream will do
            self.target.host_header,
            self.target.resource,
            subprotocols=self.subprotocols,
            extra_headers=self.request.headers.raw(),
            max_message_size=self.settings.max_message_size or sys.maxsize,
            receive_buffer_size=_READ_SIZE,
        )
        remote = f"{self.target.bracketed_host}:{self.target.port}"
        return AdaptedConnection(peer, nursery, remote=remote, request=self.request, settings=self.settings)

    async def _keep_alive(
        self, nursery: trio.Nursery, connection: AdaptedConnection, stream: ClientStream
    ) -> None:
        """Wait until the caller's block is left: before, it may still receive what arrived."""
        interval = self.settings.ping_interval
        if interval is not None:
            with trio.CancelScope() as scope, connection.cancel_when_gone(scope):
                await Keepalive(connection, stream, interval, self.settings.ping_timeout).run(nursery)
        await trio.sleep_forever()


async def _cancel_at_end(stream: ClientStream, scope: trio.CancelScope) -> None:
    await stream.ended.wait()
    scope.cancel()


async def _cancel_unless(opened: trio.Event, patience: float, scope: trio.CancelScope) -> None:
    if not await wait_running(opened, patience):
        scope.cancel()
