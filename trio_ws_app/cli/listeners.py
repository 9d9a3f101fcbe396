"""TCP ports and Unix sockets to listen on, and the URLs that lead there."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import trio

from ..errors import UsageError
from .supervisor import Inherited

BACKLOG = 1024


@asynccontextmanager
async def tcp_listeners(host: str, port: int) -> AsyncIterator[list[trio.SocketListener]]:
    """Listen on every address of ``host``; the listeners are closed with the block.

    Raises UsageError when that is not possible.
    """
    host = host.removeprefix("[").removesuffix("]")  # as in a URL
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    except OSError as problem:
        raise UsageError(_explained(problem, host, port)) from None
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.socket.close()


@asynccontextmanager
async def unix_listener(path: str, *, private: bool = False) -> AsyncIterator[list[trio.SocketListener]]:
    """Listen on the Unix socket ``path``; it is closed and removed with the block.

    A private one can be connected to by this user alone.

    A socket that a server left behind when it was killed is replaced.

    Raises UsageError when something else is at ``path``, or a server listens there.
    """
    await _remove_stale(path)
    listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        try:
            await listener.bind(path)
            if private:
                os.chmod(path, 0o600)
        except OSError as problem:
            raise UsageError(
                f"cannot listen on the Unix socket {path}: {problem.strerror or problem}"
            ) from None
        listener.listen(BACKLOG)
        bound = os.lstat(path)
        try:
            yield [trio.SocketListener(listener)]
        finally:
            with suppress(FileNotFoundError):
                if os.path.samestat(bound, os.lstat(path)):  # a successor may have put its own there
                    os.unlink(path)


@asynccontextmanager
async def inherited_listeners(worker: Inherited) -> AsyncIterator[list[trio.SocketListener]]:
    """The listeners that a worker got from its supervisor; they are closed with the block."""
    with worker:
        yield [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in worker.sockets]


async def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise UsageError(f"cannot listen on the Unix socket {path}: another file has that name")
    except FileNotFoundError:
        return
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            await probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            return
        else:
            raise UsageError(f"a server listens on the Unix socket {path} already")


def url_of(listeners: Sequence[trio.SocketListener], scheme: str) -> str:
    """The URL of the first listener: ``ws://127.0.0.1:80``, ``ws://[::1]:80``, ``ws+unix:/run/a.sock``."""
    first = listeners[0].socket
    address = first.getsockname()
    if first.family == socket.AF_UNIX:
        return f"{scheme}+unix:{address}"
    return f"{scheme}://{bracketed(address[0])}:{address[1]}"


def bracketed(host: str) -> str:
    """The host as it stands before a port: an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def _explained(problem: OSError, host: str, port: int) -> str:
    if problem.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is in use: stop what listens there, or give another --port (0: any)"
    if problem.errno == errno.EACCES:
        return f"port {port} may not be used by this user: give a --port above 1023"
    if problem.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine: give one with --host, or 0.0.0.0 for all"
    if isinstance(problem, socket.gaierror):
        return f"the host {host!r} is unknown: give an address of this machine with --host"
    return f"cannot listen on {host} port {port}: {problem.strerror or problem}"
