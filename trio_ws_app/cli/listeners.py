"""TCP ports and Unix sockets to listen on, and the URLs that lead there."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress

import trio

from ..errors import UsageError

BACKLOG = 1024


Listeners = AbstractAsyncContextManager[list[trio.SocketListener]]


def listeners_for(
    sockets: Sequence[socket.socket] | None, host: str, port: int, unix: str | None, reuse_port: bool
) -> Listeners:
    """Listeners for the ``sockets`` if there are any, else for what the options say."""
    if sockets is not None:
        return inherited_listeners(sockets)
    return tcp_listeners(host, port, reuse_port=reuse_port) if unix is None else unix_listener(unix)


@asynccontextmanager
async def tcp_listeners(
    host: str, port: int, *, reuse_port: bool = False
) -> AsyncIterator[list[trio.SocketListener]]:
    """Listen on every address of ``host``; the listeners are closed with the block.

    With ``reuse_port`` others of this user may listen there too (SO_REUSEPORT), which share what comes.

    Raises UsageError when that is not possible.
    """
    host = host.removeprefix("[").removesuffix("]")  # as in a URL
    try:
        listeners = await (_open_shared if reuse_port else _open)(host, port)
    except OSError as problem:
        raise UsageError(_explained(problem, host, port)) from None
    try:
        yield listeners
    finally:
        for listener in listeners:
            listener.socket.close()


@asynccontextmanager
async def unix_listener(
    path: str, *, private: bool = False, replace: bool = False
) -> AsyncIterator[list[trio.SocketListener]]:
    """Listen on the Unix socket ``path``; it is closed and removed with the block.

    A private one can be connected to by this user alone.

    A socket that a server left behind when it was killed is replaced; with ``replace``, any socket is.

    Raises UsageError when something else is at ``path``, or a server listens there.
    """
    await _remove_stale(path, replace)
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
async def inherited_listeners(sockets: Sequence[socket.socket]) -> AsyncIterator[list[trio.SocketListener]]:
    """Listeners for the sockets that this process was started with; they are closed with the block."""
    with ExitStack() as stack:
        for sock in sockets:
            stack.enter_context(sock)
        yield [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]


async def _open(host: str, port: int) -> list[trio.SocketListener]:
    return await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)


async def _open_shared(host: str, port: int) -> list[trio.SocketListener]:
    """As ``_open``; each socket may share its address, which has to be said before it is bound."""
    infos = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as stack:
        listeners = []
        for family, kind, protocol, _, address in infos:
            sock = stack.enter_context(trio.socket.socket(family, kind, protocol))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            await sock.bind(address)
            sock.listen(BACKLOG)
            listeners.append(trio.SocketListener(sock))
        stack.pop_all()
    return listeners


async def _remove_stale(path: str, replace: bool) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise UsageError(f"cannot listen on the Unix socket {path}: another file has that name")
    except FileNotFoundError:
        return
    if replace:
        os.unlink(path)
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
