"""Accepting from listeners of any kind, and living through a shortage of descriptors."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from math import inf

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..callbacks import interrupt_in, leaves
from ..wire.stream import StreamTransport
from ..wire.transport import Endpoint
from .addresses import socket_client, stream_addresses
from .admission import Admission
from .containment import is_cancelled
from .preamble import Preamble

logger = logging.getLogger("trio_ws_app.server")

_ACCEPTS_A_TURN = 64  # then the other tasks get theirs
_ATTEMPTS = 10  # to find a port that is free on every address
_PAUSE = 0.1  # seconds until the next attempt after accepting has failed
_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Listener = trio.abc.Listener[trio.abc.Stream]


@attrs.define(eq=False)
class Acceptor:
    """Accepts from one listener until it is cancelled; the streams' tasks run in ``nursery``."""

    _admission: Admission
    _nursery: trio.Nursery
    _failing: bool = False

    @enable_ki_protection
    async def accept(self, source: socket.socket | Listener) -> None:
        """Whatever accepting raises, neither spin nor end: other clients are still welcome."""
        while True:
            try:
                if isinstance(source, socket.socket):
                    await trio.lowlevel.wait_readable(source)
                    self.accept_waiting(source, _ACCEPTS_A_TURN)
                else:
                    stream = await source.accept()
                    self._failing = False
                    self._nursery.start_soon(self._carry, stream)
            except (trio.ClosedResourceError, trio.EndOfChannel):
                return
            except BaseException as error:
                if is_cancelled(error):
                    raise
                if not (_is_shortage(error) and self._admission.pending.free_descriptor()):
                    self._note(error)
                    await trio.sleep(_PAUSE)

    def accept_waiting(self, sock: socket.socket, most: float = inf) -> None:
        """Admit the clients that wait at this instant, up to ``most``. Raises OSError."""
        while most > 0 and self._accept_socket(sock):
            most -= 1

    def _accept_socket(self, sock: socket.socket) -> bool:
        """Admit the next client; False if none waits."""
        try:
            client, address = sock.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _SHORTAGE:
                raise
            return True  # that client is gone already
        self._failing = False
        client.setblocking(False)
        self._admission.admit_socket(client, socket_client(address))
        return True

    def _note(self, error: BaseException) -> None:
        """Log the first of several failures in a row."""
        if self._admission.core.stop.ended_by(error) or self._failing:
            pass
        elif _is_shortage(error):
            logger.warning("can't accept connections for now: %s", error)
        else:
            logger.error("a listener failed, it is tried again", exc_info=error)
        self._failing = True

    @enable_ki_protection
    async def _carry(self, stream: trio.abc.Stream) -> None:
        """Carry the bytes of one stream; what it raises ends it alone (G5)."""
        peer, local = stream_addresses(stream)
        client, has_header = self._admission.proxies.connected(peer)
        if not self._admission.let_begin(client):
            await _close_forcefully(stream)
            return
        transport = StreamTransport(stream)
        secured = stream if isinstance(stream, trio.SSLStream) else None
        handshake = self._admission.begin(transport, client, secured, local)
        endpoint: Endpoint = handshake
        if secured is None and has_header:
            endpoint = Preamble(handshake, self._admission.identify, None)
        try:
            await transport.run(endpoint)
        except BaseException as error:
            if is_cancelled(error):
                raise
            is_loss = all(isinstance(leaf, OSError) for leaf in leaves(error))
            if not (self._admission.core.stop.ended_by(error) or is_loss):
                logger.error("%s: a stream failed", client.remote, exc_info=error)
            transport.endpoint.failed()


def _is_shortage(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _SHORTAGE


async def _close_forcefully(resource: trio.abc.AsyncResource) -> None:
    """Close it without waiting; what it raises is of no interest any more."""
    try:
        await trio.aclose_forcefully(resource)
    except BaseException as error:
        if is_cancelled(error) or interrupt_in(error) is not None:
            raise
        logger.debug("closing %r failed: %r", resource, error)


async def open_tcp_listeners(port: int, host: str | None) -> list[trio.SocketListener]:
    """Listen on every address of ``host``, on the same port, also if that is 0. Raises OSError."""
    for _ in range(_ATTEMPTS):
        listeners = await trio.open_tcp_listeners(port, host=host)
        ports = [int(listener.socket.getsockname()[1]) for listener in listeners]
        if len(set(ports)) == 1:
            return listeners
        for listener in listeners:
            listener.socket.close()
        try:
            return await trio.open_tcp_listeners(ports[0], host=host)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, "no port is free on every address")


def detached(listener: trio.SocketListener) -> socket.socket:
    """The listener's socket as Python's; the descriptor is shared, so both must be closed."""
    sock = socket.socket(fileno=socket.dup(listener.socket.fileno()))
    sock.setblocking(False)
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
    return sock


@attrs.frozen(eq=False)
class Entrance:
    """All that a server accepts from: sockets, and listeners that have none."""

    _listeners: Sequence[Listener]
    _sockets: Sequence[socket.socket]
    _admission: Admission
    _nursery: trio.Nursery
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    async def accept(self) -> None:
        """Accept until ``close`` is called."""
        sources: list[socket.socket | Listener] = [*self._sockets]
        sources += [listener for listener in self._listeners if not isinstance(listener, trio.SocketListener)]
        with self._scope:
            async with trio.open_nursery() as nursery:
                for source in sources:
                    nursery.start_soon(Acceptor(self._admission, self._nursery).accept, source)

    def close(self) -> None:
        """Accept no more: others do that, on the same sockets or on others with the same address.

        In the latter case what waits for this process would be reset, so it is accepted first.
        """
        self._scope.cancel()
        for sock in self._sockets:
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
                with suppress(OSError):
                    Acceptor(self._admission, self._nursery).accept_waiting(sock)
            sock.close()
        for listener in self._listeners:
            if isinstance(listener, trio.SocketListener):
                listener.socket.close()


async def close_listeners(
    listeners: Sequence[Listener], sockets: Sequence[socket.socket], owned: bool
) -> None:
    """Close them all, whatever one of them raises.

    Those that the server itself has opened are shut down before, since a forked child may have copies of
    their descriptors; others may be shared on purpose, with other processes.
    """
    for sock in sockets:
        if owned:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        sock.close()
    with trio.CancelScope(shield=True):
        for listener in listeners:
            await _close_forcefully(listener)
