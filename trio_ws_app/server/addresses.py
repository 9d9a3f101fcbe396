"""Where a client is: as text for logs, as an address, and as what limits count as one address."""

from __future__ import annotations

import socket
from functools import lru_cache
from ipaddress import ip_address, ip_network

import attrs
import trio

from ..protocol.forwarded import hops
from ..request import Headers
from ..settings import UNIX, Settings

LocalAddress = tuple[str, int | None] | None  # what a client has connected to

_MAPPED = bytes(10) + b"\xff\xff"  # before an IPv4 address in IPv6's form (RFC 4291, section 2.5.5.2)
_NETWORK = 8  # bytes of the IPv6 address that name the network; the others its owner chooses


@attrs.frozen
class Client:
    """``remote`` is text; ``address`` is None if the client has no IP address, as on a Unix socket.

    ``group`` is what limits count by: the IPv4 address, or the /64 network of an IPv6 address, all of which
    one client has. None is not counted.
    """

    remote: str
    address: tuple[str, int] | None = None
    group: str | None = None


_MEMORY = Client("memory")
_UNIX = Client("unix")


def ip_client(host: str, port: int) -> Client:
    """The client at this IP address; ``port`` 0 if it is not known."""
    if ":" not in host:
        return Client(f"{host}:{port}" if port else host, (host, port), host)
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    if packed.startswith(_MAPPED):
        return ip_client(socket.inet_ntop(socket.AF_INET, packed[-4:]), port)
    group = socket.inet_ntop(socket.AF_INET6, packed[:_NETWORK] + bytes(16 - _NETWORK))
    return Client(f"[{host}]:{port}" if port else host, (host, port), f"{group}/64")


def socket_client(address: object) -> Client:
    """The client with this socket address, as ``accept`` and ``getpeername`` give it."""
    if isinstance(address, tuple) and isinstance(address[0], str):
        return ip_client(address[0], address[1])
    return _UNIX


@lru_cache(maxsize=64)  # few different ones, which many connections hold
def local_address(address: object) -> LocalAddress:
    """The server's end of a connection, as ``getsockname`` gives it: host and port, or a path and None."""
    match address:
        case (str(host), int(port), *_):
            return host, port
        case str(path):
            return path, None
        case _:
            return None


def stream_addresses(stream: trio.abc.AsyncResource) -> tuple[Client, LocalAddress]:
    """The client at the other end of ``stream``, and the server's end: a socket's, perhaps below TLS."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if not isinstance(stream, trio.SocketStream):
        return _MEMORY, None
    try:
        return socket_client(stream.socket.getpeername()), local_address(stream.socket.getsockname())
    except OSError:
        return Client("gone"), None


class Proxies:
    """The proxies that are trusted to say where a client is; what others say is ignored."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._networks = [ip_network(text) for text in settings.trusted_proxies if text != UNIX]

    def connected(self, peer: Client) -> tuple[Client, bool]:
        """``peer`` as limits count it, and whether it has to begin with a PROXY header.

        It is not counted by its address if it may speak for others. Only trusted proxies begin with a header,
        if any are named; it must not be guessed from what comes (section 2).
        """
        settings = self._settings
        has_header = settings.proxy_protocol and (not settings.trusted_proxies or self.trust(peer))
        return (attrs.evolve(peer, group=None) if has_header else self.counted(peer)), has_header

    def counted(self, client: Client) -> Client:
        """``client``, which a proxy has named, not counted by its address if that is a proxy's too."""
        if client.group is not None and self.trust(client):
            return attrs.evolve(client, group=None)
        return client

    def trust(self, client: Client) -> bool:
        """Whether ``client`` is one of them."""
        if client.address is None:
            return UNIX in self._settings.trusted_proxies and client.remote == _UNIX.remote
        if not self._networks:
            return False
        address = ip_address(client.address[0].partition("%")[0])
        return any(address in network for network in self._networks)

    def client_of(self, headers: Headers, peer: Client) -> tuple[Client, str | None]:
        """The client that has sent a request with ``headers``, and its scheme if a proxy has said that.

        It is the first from the right that is no trusted proxy, or the last one that is known. ``peer`` is
        what the request has come from.
        """
        client, scheme = peer, None
        if self.trust(peer):
            for hop in hops(headers.by_name, self._settings.forwarded_headers):
                scheme = hop.scheme
                if hop.host is None:
                    break
                client = ip_client(hop.host, hop.port)
                if not self.trust(client):
                    break
        return client, scheme
