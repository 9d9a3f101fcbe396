"""The seam under a connection: something that gives bytes, something that takes bytes.

Plain Python that Cython also compiles: C types are in ``transport.pxd``, system calls in ``syscalls.pxd``.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
from errno import EBADF
from typing import TYPE_CHECKING, Any, Protocol

import cython

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCKED = -1  # nothing now: the caller is told when there may be something again
LOST = -2  # nothing ever again: the peer, or the way to it, is gone

_BLOCKED = BLOCKED
_LOST = LOST

# What a non-blocking socket, with TLS or without, raises instead of waiting.
WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_READ = select.EPOLLIN | select.EPOLLRDHUP
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Endpoint(Protocol):
    """What a transport feeds: an opening handshake, then the link that it became."""

    def readable(self, buffer: bytearray, now: float) -> object:
        """There are bytes to take from the transport, or its end."""

    def writable(self) -> object:
        """The transport takes bytes again."""

    def failed(self) -> object:
        """``readable`` or ``writable`` has raised: give up what can't go on."""


class Transport:
    """Takes and gives bytes without waiting. ``BLOCKED`` and ``LOST`` are results, not exceptions."""

    def __init__(self) -> None:
        self.endpoint: Any = None  # an Endpoint, once bytes may come
        self.gathers = False  # whether ``send_gathered`` is cheaper than joining
        self.stirs = True  # whether sending gives some task something to do
        self.commits = False  # whether a write that was BLOCKED has to be repeated with the same bytes

    def recv_into(self, buffer: bytearray) -> int:
        """Put received bytes into ``buffer`` and return how many; 0 at the end, BLOCKED or LOST."""
        raise NotImplementedError

    def send(self, data: bytes | memoryview) -> int:
        """Take some of ``data`` and return how many bytes, BLOCKED or LOST."""
        raise NotImplementedError

    def send_gathered(self, parts: Sequence[bytes | memoryview]) -> int:
        """As ``send`` of all the parts."""
        return self.send(b"".join(parts))

    def pending(self) -> int:
        """How many received bytes a watch on the transport would not show."""
        return 0

    def watch(self, read: bool, write: bool) -> None:
        """Call the endpoint when there is something to read, or room to write."""

    def finish_soon(self) -> None:
        """What is sent from here on is followed by ``finish(heard=True)`` at once."""

    def finish(self, heard: bool = False) -> bool:
        """Tell the peer that no more bytes will come; True when the transport is closed by that.

        ``heard``: the peer has said the same, so there is nothing left to wait for.
        """
        raise NotImplementedError

    def close(self, abort: bool = False) -> None:
        """Give the transport back; ``abort`` drops what the peer has not taken yet."""


class Nobody:
    """The endpoint of a closed transport."""

    def readable(self, buffer: bytearray, now: float) -> object:
        """Nothing happens."""

    def writable(self) -> object:
        """Nothing happens."""

    def failed(self) -> object:
        """Nothing happens."""


NOBODY = Nobody()


class SocketTransport(Transport):
    """A non-blocking socket, with TLS or without, that an epoll watches."""

    def __init__(
        self,
        fd: int,
        epoll: select.epoll,
        transports: dict[int, Any],
        sock: socket.socket | None = None,
    ) -> None:
        super().__init__()
        self.gathers = True
        self.stirs = False
        self.transports = transports
        self._epoll = epoll
        self._fd = fd
        # For direct system calls; negative with TLS, and once closed: the number may be another's then.
        self._plain_fd = fd
        self._flags = 0  # of every send
        self._sock = sock  # made when it is needed: with direct system calls hardly ever
        self._watched = _READ

    def start(self, endpoint: Endpoint) -> None:
        """Watch the socket, and call ``endpoint``. Raises OSError where the kernel watches no more."""
        self._epoll.register(self._fd, self._watched)
        self.endpoint = endpoint
        self.transports[self._fd] = self

    def use_tls(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Speak TLS from here on; the caller drives ``do_handshake``.

        Raises OSError for a peer that is gone.
        """
        plain = self._socket()
        plain.getpeername()  # wrapping one that is gone would leave its descriptor open
        sock = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        self._sock = sock
        self.gathers = False
        self.commits = True  # it has encrypted them already
        self._plain_fd = -1
        return sock

    def _socket(self) -> Any:
        """The descriptor as Python's socket."""
        if self._sock is None:
            if self._fd < 0:
                raise OSError(EBADF, "the transport is closed")
            self._sock = socket.socket(fileno=self._fd)
            self._sock.setblocking(False)
        return self._sock

    def recv_into(self, buffer: bytearray) -> int:
        if cython.compiled and self._plain_fd >= 0:
            return int(_received(self._plain_fd, buffer))
        try:
            return int(self._socket().recv_into(buffer))
        except WOULD_BLOCK:
            return _BLOCKED
        except OSError:
            return _LOST

    def send(self, data: bytes | memoryview) -> int:
        if cython.compiled and self._plain_fd >= 0 and isinstance(data, bytes):
            return int(_sent(self._plain_fd, data, self._flags))
        try:
            return int(self._socket().send(data, self._flags))
        except WOULD_BLOCK:
            return _BLOCKED
        except OSError:
            return _LOST

    def send_gathered(self, parts: Sequence[bytes | memoryview]) -> int:
        try:
            return int(self._socket().sendmsg(parts))
        except WOULD_BLOCK:
            return _BLOCKED
        except OSError:
            return _LOST

    def pending(self) -> int:
        return self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0

    def watch(self, read: bool, write: bool) -> None:
        wanted = select.EPOLLRDHUP | (select.EPOLLIN if read else 0) | (select.EPOLLOUT if write else 0)
        if wanted != self._watched and self.transports.get(self._fd) is self:
            self._watched = wanted
            self._epoll.modify(self._fd, wanted)

    def finish_soon(self) -> None:
        if self._plain_fd >= 0:
            # The end of the stream travels with these bytes, not in a packet of its own: that makes a
            # goodbye a third cheaper.
            self._flags = socket.MSG_MORE

    def finish(self, heard: bool = False) -> bool:
        if isinstance(self._sock, ssl.SSLSocket):
            with contextlib.suppress(OSError):
                self._sock.unwrap()  # our close_notify; the peer's is not waited for
        if heard:
            # Nothing unread is left, so the kernel delivers what is written and then our FIN.
            self.close()
            return True
        with contextlib.suppress(OSError):
            self._socket().shutdown(socket.SHUT_WR)
        return False

    def close(self, abort: bool = False) -> None:
        if self._fd < 0:
            return
        if self.transports.get(self._fd) is self:
            del self.transports[self._fd]
            self._epoll.unregister(self._fd)
        if abort:
            self._reset_on_close()
        if self._sock is not None:
            self._sock.close()
        else:
            try:  # noqa: SIM105  # it takes a third of what suppress does
                os.close(self._fd)
            except OSError:
                pass  # the peer's reset may be news to the kernel even now
        self._fd = self._plain_fd = -1
        self.endpoint = NOBODY


    def _reset_on_close(self) -> object:
        if cython.compiled and self._plain_fd >= 0:
            option: cython.p_char = PyBytes_AS_STRING(_RESET_ON_CLOSE)
            setsockopt(self._plain_fd, SOL_SOCKET, SO_LINGER, option, len(_RESET_ON_CLOSE))
            return None
        with contextlib.suppress(OSError):
            self._socket().setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        return None


@cython.cfunc
def _received(fd: cython.int, buffer: bytearray) -> cython.Py_ssize_t:
    """Compiled only: recv(2) without a Python call and without an exception where nothing has come."""
    count: cython.Py_ssize_t = 0
    if cython.compiled:
        target: cython.p_char = PyByteArray_AS_STRING(buffer)
        room: cython.Py_ssize_t = len(buffer)
        count = recv(fd, target, room, 0)
        if count < 0:
            return _why()
    return count


# Cython's bytes would refuse a subclass as ``data``.
@cython.cfunc
def _sent(fd: cython.int, data: Any, flags: cython.int) -> cython.Py_ssize_t:
    """Compiled only: send(2) of as many bytes as it takes."""
    count: cython.Py_ssize_t = 0
    if cython.compiled:
        source: cython.p_char = PyBytes_AS_STRING(data)
        size: cython.Py_ssize_t = len(data)
        # The interpreter's lock is kept, here and above: nothing waits, and whoever lets go of it before each
        # of a thousand sends gets it back late, a thousand times, when another thread computes.
        count = send(fd, source, size, MSG_NOSIGNAL | flags)
        if count < 0:
            return _why()
    return count


@cython.cfunc
def _why() -> cython.Py_ssize_t:
    """Compiled only: what the error of the last system call means."""
    if cython.compiled and errno in (EAGAIN, EINTR):
        return _BLOCKED
    return _LOST


if cython.compiled:
    from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING
    from cython.cimports.libc.errno import EAGAIN, EINTR, errno
    from cython.cimports.trio_ws_app.wire.syscalls import (
        MSG_NOSIGNAL,
        SO_LINGER,
        SOL_SOCKET,
        recv,
        send,
        setsockopt,
    )
