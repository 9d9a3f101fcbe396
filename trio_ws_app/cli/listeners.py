"""TCP ports and Unix sockets to listen on, and the URLs that lead there."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import attrs
import trio

from ..errors import UsageError
from ..observability.escaping import escaped
from .privileges import Owner

BACKLOG = 1024
_ATTEMPTS = 10  # to find a port that is free on every address
_PROBE = 1.0  # seconds to find out whether a server listens on a Unix socket
# What stands for both kinds of IP: all addresses, as Linux has it by default, and RFC 6761, section 6.3.
_BOTH = {"::": ("::", "0.0.0.0"), "localhost": ("127.0.0.1", "::1")}
_UNAVAILABLE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

_Address = tuple[str | int, ...]  # host, port and, of IPv6, flow and scope: which link an fe80:: is on


@attrs.define
class Listening:
    """Bound sockets. ``close`` removes the file of a Unix socket as well.

    Unless others accept there too, on the same sockets or at the same address, they are shut down before they
    are closed, since a forked child may have copies of their descriptors.
    """

    sockets: Sequence[socket.socket]
    are_shared: bool = attrs.field(default=False, kw_only=True)
    _explain: Callable[[OSError], str] = attrs.field(default=str, kw_only=True)
    file: tuple[str, os.stat_result] | None = attrs.field(default=None, init=False)  # of a Unix socket

    def listen(self) -> None:
        """Begin to listen. Raises UsageError when that is not possible."""
        try:
            for sock in self.sockets:
                sock.listen(BACKLOG)
        except OSError as problem:
            raise UsageError(self._explain(problem)) from None

    def listeners(self) -> list[trio.SocketListener]:
        """Begin to listen, with sockets for Trio. Raises UsageError when that is not possible.

        If others accept there too, these are the only ones: closing them leaves the place to the others.
        """
        self.listen()
        sockets = self.sockets if self.are_shared else [sock.dup() for sock in self.sockets]
        return [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]

    def close(self) -> None:
        """Refuse clients from here on."""
        for sock in self.sockets:
            if not self.are_shared:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        if self.file is not None:
            path, status = self.file
            with suppress(OSError):  # it may be in a directory of another user's
                # A successor may have put its own there.
                if os.path.samestat(status, os.lstat(path)):
                    os.unlink(path)
            self.file = None


def bind_tcp(
    hosts: Sequence[str],
    port: int,
    *,
    reuse_port: bool = False,
    options: tuple[str, str] = ("--host", "--port"),
) -> Listening:
    """Bind ``port`` on every address of each of the hosts: the same one everywhere, also if it is 0.

    Addresses of a name that this machine does not have are left out, if there are others. ``::`` is all of
    IPv4 as well, and ``localhost`` both loopback addresses. With ``reuse_port`` others of this user may
    listen there too (SO_REUSEPORT), which share what comes.

    Raises UsageError when that is not possible, which names the option of the host, or that of the port.
    """
    if not hosts:  # a variable of blanks
        raise UsageError("--host: it is empty: give an address of this machine, or 0.0.0.0 for all")
    for attempt in range(_ATTEMPTS):
        sockets: list[socket.socket] = []
        try:
            for host in hosts:
                _bind_host(host, port, sockets, reuse_port)
            break
        except OSError as problem:
            for sock in sockets:
                sock.close()
            is_taken = port == 0 and problem.errno == errno.EADDRINUSE and sockets
            if not is_taken or attempt == _ATTEMPTS - 1:
                raise UsageError(_explained(problem, host, port, options)) from None
    names = " and ".join(hosts)
    return Listening(
        sockets, are_shared=reuse_port, explain=lambda problem: _explained(problem, names, port, options)
    )


def _bind_host(host: str, port: int, sockets: list[socket.socket], reuse_port: bool) -> None:
    """Append a socket for each address of ``host`` that there is none for yet."""
    last: OSError | None = None
    count = len(sockets)
    for family, address in _addresses(host, port):
        if sockets and port == 0:
            address = (address[0], sockets[0].getsockname()[1], *address[2:])
        if any(sock.getsockname() == address for sock in sockets):
            continue
        try:
            sockets.append(_bound(family, address, reuse_port))
        except OSError as problem:
            if problem.errno not in _UNAVAILABLE:
                raise
            last = problem
    if len(sockets) == count and last is not None:
        raise last


def _addresses(host: str, port: int) -> Iterator[tuple[socket.AddressFamily, _Address]]:
    host = host.removeprefix("[").removesuffix("]")  # as in a URL
    for name in _BOTH.get(host, (host,)):
        try:
            found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except UnicodeError:  # IDNA has no form of it
            raise socket.gaierror(socket.EAI_NONAME, "no name of a host") from None
        for family, _, _, _, address in found:
            yield family, (str(address[0]), int(address[1]), *address[2:])


def _bound(family: socket.AddressFamily, address: _Address, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except BaseException:
        sock.close()
        raise
    return sock


def bind_unix(
    path: str, mode: int | None = None, owner: Owner | None = None, *, replace: bool = False
) -> Listening:
    """Bind the Unix socket ``path``, an abstract one if that begins with ``@``.

    The file gets ``mode`` and ``owner`` before anything can connect to it. A socket that a server left behind
    when it was killed is replaced; with ``replace``, any socket is.

    Raises UsageError when something else is at ``path``, or a server listens there.
    """
    is_abstract = path.startswith("@")
    if is_abstract and (mode is not None or owner is not None):
        raise UsageError(f"the abstract Unix socket {path} has no file, so neither a mode nor an owner")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening = Listening([sock])
    try:
        if is_abstract:
            sock.bind("\0" + path[1:])
        else:
            _remove_stale(path, replace)
            sock.bind(path)
            # The application may go to another directory.
            listening.file = os.path.abspath(path), os.lstat(path)
        if mode is not None:
            os.chmod(path, mode)
        if owner is not None:
            os.chown(path, *owner)
        return listening
    except OSError as problem:
        listening.close()
        if problem.errno == errno.EADDRINUSE:
            raise UsageError(f"a server listens on the Unix socket {path} already") from None
        raise UsageError(f"cannot listen on the Unix socket {path}: {problem.strerror or problem}") from None


def _remove_stale(path: str, replace: bool) -> None:
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise FileExistsError(errno.EEXIST, "another file has that name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE)
        if replace or probe.connect_ex(path) == errno.ECONNREFUSED:
            os.unlink(path)


def url_of(sock: socket.socket, scheme: str) -> str:
    """``ws://127.0.0.1:80``, ``ws://[::1]:80``, ``ws+unix:/run/a.sock``, ``ws+unix:@abstract``."""
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        name = "@" + os.fsdecode(address[1:]) if isinstance(address, bytes) else address
        return f"{scheme}+unix:{escaped(name)}"
    host = f"[{address[0]}]" if sock.family == socket.AF_INET6 else address[0]  # RFC 3986, section 3.2.2
    return f"{scheme}://{host}:{address[1]}"


def _explained(problem: OSError, host: str, port: int, options: tuple[str, str]) -> str:
    host_option, port_option = options
    if problem.errno == errno.EADDRINUSE:
        text = f"port {port} on {host} is in use: stop what listens there, or give another"
        return f"{text} {port_option} (0: any)"
    if problem.errno == errno.EACCES:
        return f"port {port} may not be used by this user: give a {port_option} above 1023"
    if problem.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine: give one with {host_option}, or 0.0.0.0 for all"
    if isinstance(problem, socket.gaierror):
        return f"the host {host!r} is unknown: give an address of this machine with {host_option}"
    return f"cannot listen on {host} port {port}: {problem.strerror or problem}"
