"""Where Redis is and who we are there, read from a URL, and how long to wait for it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

DEFAULT_PORT = 6379

_EXAMPLES = (
    "redis://localhost:6379, rediss://user:password@host:6380 (TLS), unix:///run/redis/redis.sock, "
    "or redis://node1:7000,node2:7001 (a cluster)"
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
    """What a Redis URL says. Several addresses are nodes of one cluster, tried in turn to find the others."""

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

    Raises ValueError with one line that says what is wrong and what would be right.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"{_without_secrets(url)!r} is no Redis URL; right would be {_EXAMPLES}")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(query.keys() - set(_QUERY_NAMES)):
        known = ", ".join(_QUERY_NAMES)
        raise ValueError(f"unknown parameter {unknown[0]!r} in the Redis URL; known are {known}")
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    return RedisUrl(
        addresses=(_unix_address(parts.path),) if parts.scheme == "unix" else _addresses(hosts),
        username=unquote(username) or "default",
        password=unquote(password) if password else None,
        tls=_tls_context(query) if parts.scheme == "rediss" else None,
    )


def _without_secrets(url: str) -> str:
    before, at, after = url.rpartition("@")
    return f"{before.partition('://')[0]}://***@{after}" if at else url


def _unix_address(path: str) -> Address:
    if not path:
        raise ValueError("a unix:// URL needs the path of the socket, as in unix:///run/redis/redis.sock")
    return Address(unquote(path), 0)


def _addresses(hosts: str) -> tuple[Address, ...]:
    return tuple(_tcp_address(host) for host in (hosts or "localhost").split(","))


def _tcp_address(text: str) -> Address:
    parts = urlsplit(f"//{text}")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if not parts.hostname or port == 0:
        raise ValueError(f"{text!r} in the Redis URL is no host:port; right would be {_EXAMPLES}")
    return Address(parts.hostname, port or DEFAULT_PORT)


def _tls_context(query: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=query.get("ssl_ca_certs"))
        if certificate := query.get("ssl_certfile"):
            context.load_cert_chain(certificate, query.get("ssl_keyfile"))
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"cannot use the certificates named in the Redis URL: {error}") from error
    context.check_hostname = query.get("ssl_check_hostname", "true").lower() not in ("false", "no", "0")
    return context
