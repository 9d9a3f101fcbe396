"""The address, user and database of a Redis URL, and how long to wait for Redis."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from urllib.parse import unquote

import attrs

from .redis_parameters import TLS_PARAMETERS, read_parameters, tls_context, values_of

DEFAULT_PORT = 6379

SENTINEL_PORT = 26379

_EXAMPLES = (
    "redis://localhost:6379, rediss://user:password@host:6380 (TLS), unix:///run/redis/redis.sock, "
    "redis://node1:7000,node2:7001 (a cluster), or redis+sentinel://host1,host2/service"
)
_PERCENT_ENCODE = (
    "the user name and the password in the Redis URL have to be percent-encoded "
    "(/ is %2F, # is %23, ? is %3F, @ is %40, % is %25): "
    "python -c 'import getpass, urllib.parse as u; print(u.quote(getpass.getpass(), safe=\"\"))'"
)
_LONGEST_NUMBER = 10
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_HOST_AND_PORT = re.compile(
    r"(\[(?P<ipv6>[0-9A-Fa-f:.%\w]+)\]|(?P<name>[^\s:\[\]]+))(:(?P<port>[0-9]{0,5}))?"
)
_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")


@attrs.frozen
class Address:
    """One Redis server: host and port, or ``port`` 0 and the path of a Unix socket."""

    host: str
    port: int

    def __str__(self) -> str:
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class RedisUrl:
    """What a Redis URL says.

    Several addresses are nodes of one cluster or a primary and its replicas, tried in turn to find the others
    or the primary. With a ``service`` they are Sentinels, which say where its primary is.
    """

    addresses: tuple[Address, ...]
    username: str = "default"
    password: str | None = attrs.field(default=None, repr=False)
    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    service: str | None = None
    sentinel_username: str = "default"
    sentinel_password: str | None = attrs.field(default=None, repr=False)
    database: int = 0
    client_name: str = "trio_ws_app"
    timeouts: Mapping[str, float] = attrs.field(factory=dict)


@attrs.frozen
class RedisTimeouts:
    """How long the Redis broker waits for what, in seconds.

    ``connect``: for a connection with its handshake. ``request``: for ``publish`` and for the acknowledgement
    of a subscription, waiting for Redis to come back included. ``ping_interval``: silence after which a ping
    goes out. ``ping``: further silence after which the connection is given up. ``backoff``: the longest pause
    between two attempts to connect.
    """

    connect: float = 2.0
    request: float = 2.0
    ping_interval: float = 2.0
    ping: float = 2.0
    backoff: float = 1.0


def parse_redis_url(url: str) -> RedisUrl:
    """Read ``redis://``, ``rediss://`` (TLS), ``unix://`` and ``redis+sentinel://`` URLs (also with TLS).

    Credentials are percent-decoded; a password without a name is the user ``default``'s. ``rediss``
    verifies the certificate and the host name. A path is the number of the database for histories and
    presence; messages are seen in all databases. ``redis_parameters`` has what may follow a question mark.

    Raises ValueError with one line that says what is wrong and what would be right. The line never shows
    a part of the credentials.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError(f"{_without_secrets(url)!r} is no Redis URL; right would be {_EXAMPLES}")
    authority, path, query = _split(rest)
    credentials, _, hosts = authority.rpartition("@")
    _check_credentials(scheme, authority, path, query)
    parameters = read_parameters(query, secret="@" in query or "password" in query)
    username, _, password = credentials.partition(":")
    service = None
    if scheme == "unix":
        addresses: tuple[Address, ...] = (_unix_address(hosts, path),)
        path = ""
    elif scheme.endswith("+sentinel"):
        addresses = _addresses(hosts, SENTINEL_PORT)
        service, path = _service(path)
    else:
        addresses = _addresses(hosts, DEFAULT_PORT)
    given = {} if path.strip("/") == "" else {"database": _database(path)}
    values = {"username": unquote(username)} | {"password": unquote(password)} if credentials else {}
    return RedisUrl(
        addresses=addresses,
        tls=tls_context(parameters) if scheme.startswith("rediss") else None,
        service=service,
        **values_of(parameters) | {name: value for name, value in values.items() if value} | given,
    )


def _split(rest: str) -> tuple[str, str, str]:
    """What follows the scheme: the authority, the path with its slash, the query."""
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    path, _, query = rest[len(authority) :].partition("?")
    return authority, path, query


def _check_credentials(scheme: str, authority: str, path: str, query: str) -> None:
    """Refuse credentials whose end cannot be told, since they hold what has a meaning in a URL."""
    credentials, _, hosts = authority.rpartition("@")
    names_files = (
        scheme.startswith("rediss")
        and query.startswith(tuple(f"{name}=" for name in TLS_PARAMETERS))
        and all(map(_HOST_AND_PORT.fullmatch, hosts.split(",")))
    )
    beyond = path if names_files else path + query
    if "#" in path + query or (authority and "@" in beyond) or _STRAY_PERCENT.search(credentials):
        raise ValueError(_PERCENT_ENCODE)


def _service(path: str) -> tuple[str, str]:
    """The name of what Sentinels watch, and the rest of the path."""
    service, _, rest = path.removeprefix("/").partition("/")
    if not service:
        raise ValueError("Sentinels need the name of what they watch: redis+sentinel://host1,host2/mymaster")
    return unquote(service), rest


def _database(path: str) -> int:
    text = path.strip("/")
    if not (text.isdecimal() and text.isascii() and len(text) < _LONGEST_NUMBER):
        raise ValueError(f"what follows the host in the Redis URL is no database; right would be {_EXAMPLES}")
    return int(text)


def _without_secrets(url: str) -> str:
    _, at, after = url.rpartition("@")
    scheme = re.match("[a-z+]+://", url)
    return f"{scheme[0] if scheme else ''}***@{after}" if at else url


def _unix_address(hosts: str, path: str) -> Address:
    if hosts or not path:
        raise ValueError("a unix:// URL needs the path of the socket, as in unix:///run/redis/redis.sock")
    return Address(unquote(path), 0)


def _addresses(hosts: str, default_port: int) -> tuple[Address, ...]:
    return tuple(_tcp_address(host, default_port) for host in (hosts or "localhost").split(","))


def _tcp_address(text: str, default_port: int) -> Address:
    match = _HOST_AND_PORT.fullmatch(text)
    port = int(match["port"] or default_port) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError(f"{text!r} in the Redis URL is no host:port; right would be {_EXAMPLES}")
    return Address(match["ipv6"] or match["name"].lower(), port)
