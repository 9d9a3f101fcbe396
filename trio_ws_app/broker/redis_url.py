"""Where Redis is and who we are there, read from a URL, and how long to wait for it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

import attrs

DEFAULT_PORT = 6379

_EXAMPLES = (
    "redis://localhost:6379, rediss://user:password@host:6380 (TLS), unix:///run/redis/redis.sock, "
    "or redis://node1:7000,node2:7001 (a cluster)"
)
_PERCENT_ENCODE = (
    "the user name and the password in the Redis URL have to be percent-encoded "
    "(/ is %2F, # is %23, ? is %3F, @ is %40, % is %25): "
    "python -c 'import getpass, urllib.parse as u; print(u.quote(getpass.getpass(), safe=\"\"))'"
)
_STRAY_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_HOST_AND_PORT = re.compile(
    r"(\[(?P<ipv6>[0-9A-Fa-f:.%\w]+)\]|(?P<name>[^\s:\[\]]+))(:(?P<port>[0-9]{0,5}))?"
)
_QUERY_NAMES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")


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
    or the primary.
    """

    addresses: tuple[Address, ...]
    username: str = "default"
    password: str | None = attrs.field(default=None, repr=False)
    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False)


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
    """Read ``redis://``, ``rediss://`` (TLS) and ``unix://`` URLs.

    Credentials are percent-decoded; a password without a name is the user ``default``'s. ``rediss``
    verifies the certificate and the host name, against the system's authorities or those in
    ``?ssl_ca_certs=FILE``; ``ssl_certfile`` and ``ssl_keyfile`` name a client certificate, and
    ``ssl_check_hostname=false`` verifies the certificate only. A database number is accepted and has no
    effect, since publish-subscribe does not know databases.

    Raises ValueError with one line that says what is wrong and what would be right. The line never shows
    a part of the credentials.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"{_without_secrets(url)!r} is no Redis URL; right would be {_EXAMPLES}")
    authority, path, query = _split(rest)
    credentials, _, hosts = authority.rpartition("@")
    _check_credentials(scheme, authority, path, query)
    parameters = _parameters(query, secret="@" in query)
    username, _, password = credentials.partition(":")
    if scheme == "unix":
        addresses: tuple[Address, ...] = (_unix_address(hosts, path),)
    else:
        addresses = _addresses(hosts)
        _check_database(path)
    return RedisUrl(
        addresses=addresses,
        username=unquote(username) or "default",
        password=unquote(password) if password else None,
        tls=_tls_context(parameters) if scheme == "rediss" else None,
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
        scheme == "rediss"
        and query.startswith(tuple(f"{name}=" for name in _QUERY_NAMES))
        and all(map(_HOST_AND_PORT.fullmatch, hosts.split(",")))
    )
    beyond = path if names_files else path + query
    if "#" in path + query or (authority and "@" in beyond) or _STRAY_PERCENT.search(credentials):
        raise ValueError(_PERCENT_ENCODE)


def _parameters(query: str, secret: bool) -> Mapping[str, str]:
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(parameters.keys() - set(_QUERY_NAMES)):
        name = "a parameter" if secret else f"parameter {unknown[0]!r}"
        raise ValueError(f"unknown {name} in the Redis URL; known are {', '.join(_QUERY_NAMES)}")
    return parameters


def _check_database(path: str) -> None:
    if path.strip("/") and not path.strip("/").isdecimal():
        raise ValueError(f"what follows the host in the Redis URL is no database; right would be {_EXAMPLES}")


def _without_secrets(url: str) -> str:
    _, at, after = url.rpartition("@")
    scheme = re.match("[a-z]+://", url)
    return f"{scheme[0] if scheme else ''}***@{after}" if at else url


def _unix_address(hosts: str, path: str) -> Address:
    if hosts or not path:
        raise ValueError("a unix:// URL needs the path of the socket, as in unix:///run/redis/redis.sock")
    return Address(unquote(path), 0)


def _addresses(hosts: str) -> tuple[Address, ...]:
    return tuple(_tcp_address(host) for host in (hosts or "localhost").split(","))


def _tcp_address(text: str) -> Address:
    match = _HOST_AND_PORT.fullmatch(text)
    port = int(match["port"] or DEFAULT_PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError(f"{text!r} in the Redis URL is no host:port; right would be {_EXAMPLES}")
    return Address(match["ipv6"] or match["name"].lower(), port)


def _tls_context(query: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=query.get("ssl_ca_certs"))
        if certificate := query.get("ssl_certfile"):
            context.load_cert_chain(certificate, query.get("ssl_keyfile"))
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"cannot use the certificates named in the Redis URL: {error}") from error
    context.check_hostname = query.get("ssl_check_hostname", "true").lower() not in ("false", "no", "0")
    return context
