"""The seam under a connection: something that gives bytes, something that takes bytes."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
from typing import Protocol

import trio

# What a non-blocking socket, with TLS or without, raises instead of waiting.
WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_READ_CHUNK = 64 * 1024


class Endpoint(Protocol):
    """What a transport feeds: an opening handshake, then the link that it became."""

    def readable(self, buffer: bytearray, now: float) -> object:
        """There are bytes to take from the transport, or its end."""

    def writable(self) -> object:
        """The transport takes bytes again."""


class Transport(Protocol):
    """Takes and gives bytes without waiting: ``WOULD_BLOCK`` is raised where it would have to."""

    endpoint: Endpoint

    def recv_into(self, buffer: bytearray) -> int:
        """Put received bytes into ``buffer`` and return how many; 0 at the end, OSError when lost."""

    def send(self, data: bytes | memoryview) -> int:
        """Take some of ``data`` and return how many bytes; OSError when the peer is lost."""

    gathers: bool  # whether ``send_gathered`` is there

    def send_gathered(self, parts: list[bytes | memoryview]) -> int:
        """As ``send`` of all the parts, without joining them."""

    def pending(self) -> int:
        """How many received bytes a watch on the transport would not show."""

    def watch(self, read: bool, write: bool) -> None:
        """Call the endpoint when there is something to read, or room to write."""

    def finish(self, heard: bool = False) -> bool:
        """Tell the peer that no more bytes will come; True when the transport is closed by that.

        ``heard``: the peer has said the same, so there is nothing left to wait for.
        """

    def close(self, abort: bool = False) -> None:
        """Give the transport back; ``abort`` drops what the peer has not taken yet."""


class Nobody:
    """The endpoint of a closed transport."""

    def readable(self, buffer: bytearray, now: float) -> object:
        """Nothing happens."""

    def writable(self) -> object:
        """Nothing happens."""


NOBODY = Nobody()


class SocketTransport:
    """A non-blocking socket, with TLS or without, that an epoll watches."""

    __slots__ = (
        "_epoll",
        "_fd",
        "_watched",
        "endpoint",
        "gathers",
        "recv_into",
        "send",
        "sock",
        "transports",
    )

    def __init__(
        self, sock: socket.socket, epoll: select.epoll, transports: dict[int, SocketTransport]
    ) -> None:
        self.sock = sock
        self.recv_into = sock.recv_into
        self.send = sock.send
        self.gathers = True
        self._epoll = epoll
        self._fd = sock.fileno()
        self._watched = select.EPOLLIN | select.EPOLLRDHUP
        self.transports = transports
        self.endpoint: Endpoint

    def start(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.transports[self._fd] = self
        self._epoll.register(self._fd, self._watched)

    def use_tls(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Speak TLS from here on; the caller drives ``do_handshake``."""
        self.sock = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
        self.recv_into = self.sock.recv_into
        self.send = self.sock.send
        self.gathers = False
        return self.sock

    def send_gathered(self, parts: list[bytes | memoryview]) -> int:
        return self.sock.sendmsg(parts)

    def pending(self) -> int:
        return self.sock.pending() if isinstance(self.sock, ssl.SSLSocket) else 0

    def watch(self, read: bool, write: bool) -> None:
        wanted = select.EPOLLRDHUP | (select.EPOLLIN if read else 0) | (select.EPOLLOUT if write else 0)
        if wanted != self._watched and self.transports.get(self._fd) is self:
            self._watched = wanted
            self._epoll.modify(self._fd, wanted)

    def finish(self, heard: bool = False) -> bool:
        if isinstance(self.sock, ssl.SSLSocket):
            with contextlib.suppress(OSError):
                self.sock.unwrap()  # our close_notify; the peer's is not waited for
        if heard:
            # Nothing unread is left, so the kernel delivers what is written and then our FIN.
            self.close()
            return True
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        return False

    def close(self, abort: bool = False) -> None:
        if self.transports.get(self._fd) is self:
            del self.transports[self._fd]
            self._epoll.unregister(self._fd)
        if abort:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.endpoint = NOBODY
        self.sock.close()


class StreamTransport:
    """Any Trio stream as a transport: two small tasks do the waiting (in memory, or foreign streams)."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.endpoint: Endpoint
        self.gathers = False
        self._received = b""
        self._end = False
        self._error: OSError | None = None
        self._sending: bytes = b""
        self._wake_reader = trio.Event()
        self._wake_writer = trio.Event()
        self._reading = True
        self._finished = False
        self._closed = False
        self._scope = trio.CancelScope()

    async def run(self, endpoint: Endpoint) -> None:
        """Carry bytes until the transport is closed; then the stream is closed too."""
        self.endpoint = endpoint
        with self._scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._read)
                    nursery.start_soon(self._write)
            finally:
                self._closed = True
                await trio.aclose_forcefully(self._stream)

    async def _read(self) -> None:
        buffer = bytearray(_READ_CHUNK)
        while not (self._end or self._error):
            try:
                self._received = bytes(await self._stream.receive_some(_READ_CHUNK))
                self._end = not self._received
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._error = ConnectionResetError("the peer is gone")
            while not self._reading and self._received:
                self._wake_reader = trio.Event()
                await self._wake_reader.wait()
            self.endpoint.readable(buffer, trio.current_time())

    async def _write(self) -> None:
        while True:
            while not self._sending and not self._finished:
                self._wake_writer = trio.Event()
                await self._wake_writer.wait()
            try:
                if self._sending:
                    await self._stream.send_all(self._sending)
                elif isinstance(self._stream, trio.abc.HalfCloseableStream):
                    await self._stream.send_eof()
                    return
                else:
                    return
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._error = ConnectionResetError("the peer is gone")
            self._sending = b""
            self.endpoint.writable()
            if self._error:
                return

    def recv_into(self, buffer: bytearray) -> int:
        if self._received:
            size = len(self._received)
            buffer[:size] = self._received
            self._received = b""
            return size
        if self._error:
            raise self._error
        if self._end:
            return 0
        raise BlockingIOError

    def send(self, data: bytes | memoryview) -> int:
        if self._error or self._closed:
            raise self._error or ConnectionResetError("closed")
        if self._sending:
            raise BlockingIOError
        self._sending = bytes(data)
        self._wake_writer.set()
        return len(data)

    def send_gathered(self, parts: list[bytes | memoryview]) -> int:
        return self.send(b"".join(parts))

    def pending(self) -> int:
        return 0

    def watch(self, read: bool, write: bool) -> None:  # noqa: ARG002  # the writing task always tells
        self._reading = read
        if read:
            self._wake_reader.set()

    def finish(self, heard: bool = False) -> bool:  # noqa: ARG002  # the stream still has to send
        self._finished = True
        self._wake_writer.set()
        return False

    def close(self, abort: bool = False) -> None:  # noqa: ARG002  # a stream has no other way
        self._closed = True
        self._scope.cancel()
