"""Where a client is, as text for logs and as the host that limits are counted by."""

from __future__ import annotations

import attrs
import trio


@attrs.frozen
class Client:
    """``remote`` is text; ``address`` is None if the client has no IP address, as on a Unix socket."""

    remote: str
    address: tuple[str, int] | None = None

    @property
    def host(self) -> str | None:
        """The IP address."""
        return None if self.address is None else self.address[0]


MEMORY = Client("memory")


def socket_client(address: object) -> Client:
    """The client with this socket address, as ``accept`` and ``getpeername`` give it."""
    match address:
        case (str(host), int(port), *_):
            return Client(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", (host, port))
        case _:
            return Client("unix")


def stream_client(stream: trio.abc.AsyncResource) -> Client:
    """The client at the other end of ``stream``: a socket's, perhaps below TLS, or one without an address."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if not isinstance(stream, trio.SocketStream):
        return MEMORY
    try:
        return socket_client(stream.socket.getpeername())
    except OSError:
        return Client("gone")


def local_address(address: object) -> tuple[str, int | None] | None:
    """The server's end of a connection, as ``getsockname`` gives it: host and port, or a path and None."""
    match address:
        case (str(host), int(port), *_):
            return host, port
        case str(path):
            return path, None
        case _:
            return None


def stream_local_address(stream: trio.abc.AsyncResource) -> tuple[str, int | None] | None:
    """The server's end of ``stream``, None if it has no address."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if not isinstance(stream, trio.SocketStream):
        return None
    try:
        return local_address(stream.socket.getsockname())
    except OSError:
        return None
