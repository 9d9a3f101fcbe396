# cython: annotation_typing=False
"""The seam under a connection: what gives bytes and takes bytes without waiting."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Protocol

from ..primitives import BLOCKED, LOST, receive, reset, send, shutdown

# What a non-blocking TLS socket raises instead of waiting.
_WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_END = select.EPOLLRDHUP
_TCP = (socket.AF_INET, socket.AF_INET6)


class Endpoint(Protocol):
    """What a transport feeds: a pending handshake, then the link that it became."""

    def readable(self, buffer: bytearray, now: float) -> object:
        """There are bytes to take from the transport, or it has ended."""

    def writable(self) -> object:
        """The transport takes bytes again."""

    def failed(self) -> object:
        """``readable`` or ``writable`` has raised: give up what can't go on."""


class Transport:
    """Takes and gives bytes without waiting. ``BLOCKED`` and ``LOST`` are results, not exceptions."""

    def __init__(self) -> None:
        self.endpoint: Any = None  # an Endpoint, while bytes may come
        self.vectored = False  # whether ``send_vectored`` is cheaper than joining
        self.wakes_tasks = True  # whether sending gives some task something to do
        self.repeats_writes = False  # whether a write that was BLOCKED has to be repeated with the same bytes

    def recv_into(self, buffer: bytearray, size: int) -> int:
        """Put up to ``size`` received bytes into ``buffer``; how many, 0 at the end, BLOCKED or LOST."""
        raise NotImplementedError

    def send(self, data: bytes | memoryview) -> int:
        """Take some of ``data``; how many bytes, BLOCKED or LOST."""
        raise NotImplementedError

    def send_vectored(self, parts: Sequence[bytes | memoryview]) -> int:
        """As ``send`` of all the parts."""
        return self.send(b"".join(parts))

    def pending(self) -> int:
        """How many received bytes a watch on the transport would not show."""
        return 0

    def watch(self, read: bool, write: bool) -> None:
        """Call the endpoint when there is something to read, or room to write; always at the end."""

    def ignore_end(self) -> None:
        """The end of the transport is known: until something is to be read, do not call for it again."""

    def limit_unacknowledged(self, seconds: float | None) -> None:
        """Lose the transport when the peer's machine has acknowledged nothing for so long (None: never)."""

    def send_eof(self, peer_is_done: bool = False) -> bool:
        """Tell the peer that no more bytes will come; whether the transport is closed by that.

        ``peer_is_done``: the peer has said the same, so there is nothing left to wait for.
        """
        raise NotImplementedError

    def close(self, abort: bool = False) -> None:
        """Give the transport back; ``abort`` drops what the peer has not taken yet."""


class SocketTransport(Transport):
    """A non-blocking socket, with TLS or without, that a poller watches."""

    def __init__(self, fd: int, epoll: select.epoll, transports: dict[int, Any]) -> None:
        super().__init__()
        self.vectored = True
        self.wakes_tasks = False
        self._fd = fd  # -1 once closed: the number may be another's then
        self._epoll = epoll
        self._transports = transports  # of that epoll, by descriptor
        self._tls: ssl.SSLSocket | None = None
        self._watched = select.EPOLLIN | _END

    def start(self, endpoint: Endpoint) -> None:
        """Watch the socket, and call ``endpoint``. Raises OSError when the kernel watches no more."""
        self._epoll.register(self._fd, self._watched)
        self.endpoint = endpoint
        self._transports[self._fd] = self

    def use_tls(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Speak TLS from here on; the caller drives ``do_handshake``.

        Raises OSError for a peer that is gone.
        """
        plain = socket.socket(fileno=self._fd)
        try:
            plain.setblocking(False)
            plain.getpeername()  # wrapping one that is gone would leave its descriptor open
            self._tls = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        finally:
            if self._tls is None:
                plain.detach()
        self.vectored = False
        self.repeats_writes = True  # it has encrypted them already
        return self._tls

    def recv_into(self, buffer: bytearray, size: int) -> int:
        if self._tls is None:
            return receive(self._fd, buffer, size)
        try:
            return int(self._tls.recv_into(buffer, size))
        except _WOULD_BLOCK:
            return BLOCKED
        except (OSError, ValueError):  # ValueError: it was detached by a close
            return LOST

    def send(self, data: bytes | memoryview) -> int:
        if self._tls is None:
            return send(self._fd, data)
        try:
            return int(self._tls.send(data))
        except _WOULD_BLOCK:
            return BLOCKED
        except (OSError, ValueError):
            return LOST

    def send_vectored(self, parts: Sequence[bytes | memoryview]) -> int:
        try:
            return os.writev(self._fd, parts)
        except BlockingIOError:
            return BLOCKED
        except OSError:
            return LOST

    def pending(self) -> int:
        return 0 if self._tls is None else self._tls.pending()

    def watch(self, read: bool, write: bool) -> None:
        end = 0 if self._watched == 0 and not read else _END
        self._set_watched(end | (select.EPOLLIN if read else 0) | (select.EPOLLOUT if write else 0))

    def ignore_end(self) -> None:
        self._set_watched(0)

    def _set_watched(self, wanted: int) -> object:
        """Change what the poller watches; nothing at all is to be unregistered, since errors always show."""
        if wanted == self._watched or self._transports.get(self._fd) is not self:
            return None
        if wanted == 0:
            self._epoll.unregister(self._fd)
        elif self._watched == 0:
            self._epoll.register(self._fd, wanted)
        else:
            self._epoll.modify(self._fd, wanted)
        self._watched = wanted
        return None

    def limit_unacknowledged(self, seconds: float | None) -> None:
        sock = socket.socket(fileno=self._fd) if self._tls is None else self._tls
        with contextlib.suppress(OSError):
            if sock.family in _TCP:
                milliseconds = 0 if seconds is None else max(1, int(seconds * 1000))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        if self._tls is None:
            sock.detach()

    def send_eof(self, peer_is_done: bool = False) -> bool:
        if self._tls is not None:
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()  # our close_notify; the peer's is not waited for
        if peer_is_done:
            # Nothing unread is left, so the kernel delivers what is written and then our FIN.
            self.close()
            return True
        shutdown(self._fd, socket.SHUT_WR)
        return False

    def close(self, abort: bool = False) -> None:
        if self._fd < 0:
            return
        self._unwatch()
        if abort:
            reset(self._fd)
        # A child process that was forked may hold the descriptor too: closing ours would not end it.
        shutdown(self._fd, socket.SHUT_RDWR)
        try:
            if self._tls is None:
                os.close(self._fd)
            else:
                self._tls.close()
        except OSError:
            pass  # there is nothing more to be done for it
        self._fd = -1

    def _unwatch(self) -> object:
        """Watch the socket no more, and forget the endpoint; the descriptor is about to be closed."""
        if self._transports.get(self._fd) is self:
            del self._transports[self._fd]
            if self._watched:
                self._epoll.unregister(self._fd)
        self.endpoint = None
        return None
