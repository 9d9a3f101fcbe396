"""Taking from a listening socket what waits there.

Plain Python that Cython also compiles: C types are in ``accepting.pxd``, system calls in ``syscalls.pxd``.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import cython


class Accepting:
    """The connections that wait at a non-blocking listening socket, one by one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        # Addresses of other kinds are read by Python, which knows them all.
        self._plain = sock.family == socket.AF_INET

    def accept(self) -> tuple[int, object] | None:
        """A connection's non-blocking descriptor, now the caller's to close, and its address.

        None where nobody waits. Raises OSError for whatever else accept(2) says.
        """
        if cython.compiled and self._plain:
            waiting: tuple[int, object] | None = self._accept_plain()
            return waiting
        try:
            sock, address = self._sock.accept()
        except BlockingIOError:
            return None
        sock.setblocking(False)
        return sock.detach(), address

    def _accept_plain(self) -> Any:
        """Compiled only: one system call where Python's accept and setblocking need three, and no socket."""
        if cython.compiled:
            address: sockaddr_in  # filled in by the call
            size: socklen_t = cython.sizeof(sockaddr_in)
            fd: cython.int = accept4(
                self._fd,
                cython.cast(cython.pointer(sockaddr), cython.address(address)),  # noqa: F821
                cython.address(size),
                SOCK_NONBLOCK | SOCK_CLOEXEC,
            )
            if fd >= 0:
                host: cython.p_char = cython.cast(cython.p_char, cython.address(address.sin_addr))  # noqa: F821
                port: cython.int = ntohs(address.sin_port)  # noqa: F821
                return fd, (socket.inet_ntop(socket.AF_INET, host[:4]), port)
            if errno != EAGAIN:
                number: cython.int = errno
                raise OSError(number, os.strerror(number))
        return None


if cython.compiled:
    from cython.cimports.libc.errno import EAGAIN, errno
    from cython.cimports.trio_ws_app.wire.syscalls import (
        SOCK_CLOEXEC,
        SOCK_NONBLOCK,
        accept4,
        ntohs,
        sockaddr,
        sockaddr_in,
        socklen_t,
    )
