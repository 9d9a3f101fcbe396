"""What a Redis URL says. Its parameters have redis-py's names, as far as they mean something here."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from math import inf
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import attrs

from .redis_patience import RedisTimeouts

DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379

_EXAMPLES: Final = (
    "redis://localhost:6379, rediss://user:password@host:6380 (TLS), unix:///run/redis/redis.sock, "
    "redis://node1:7000,node2:7001 (a cluster), or redis+sentinel://host1,host2/service"
)
_PERCENT_ENCODE: Final = (
    "the user name and the password in the Redis URL have to be percent-encoded "
    "(/ is %2F, # is %23, ? is %3F, @ is %40, % is %25): "
    "python -c 'import getpass, urllib.parse as u; print(u.quote(getpass.getpass(), safe=\"\"))'"
)
_URL: Final = re.compile(r"(rediss?(?:\+sentinel)?|unix)://([^/?#]*)([^?]*)\??(.*)", re.DOTALL)
_STRAY_PERCENT: Final = re.compile("%(?![0-9A-Fa-f]{2})")
_HOST_AND_PORT: Final = re.compile(r"(\[(?P<ipv6>[\w:.%]+)\]|(?P<name>[^\s:\[\]]+))(:(?P<port>[0-9]{0,5}))?")
_NUMBER: Final = re.compile("[0-9]{1,9}")

_TEXTS: Final = ("username", "password", "client_name", "sentinel_username", "sentinel_password")
_TIMEOUTS: Final = {
    "health_check_interval": "ping_interval",
    "socket_timeout": "request",
    "socket_connect_timeout": "connect",
}
_TLS_PARAMETERS: Final = (
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
    "ssl_cert_reqs",
    "ssl_min_version",
)
_KNOWN: Final = ("db", *_TEXTS, "protocol", *_TIMEOUTS, *_TLS_PARAMETERS)
_NOT_NEEDED: Final = {
    "connection_pool_class": "there are two connections for each server",
    "decode_responses": "messages are text or bytes, as they were published",
    "encoding": "text is UTF-8",
    "encoding_errors": "text is UTF-8",
    "max_connections": "there are two connections for each server",
    "retry_on_error": "it comes back by itself",
    "retry_on_timeout": "it comes back by itself",
    "socket_keepalive": "pings notice a server that is gone",
    "ssl_keyfile_password": "write the key without a passphrase, as with 'openssl pkey'",
    "ssl_password": "write the key without a passphrase, as with 'openssl pkey'",
}
_VERIFY: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


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
    timeouts: RedisTimeouts = attrs.field(factory=RedisTimeouts)


def parse_redis_url(url: str, timeouts: RedisTimeouts = RedisTimeouts()) -> RedisUrl:  # noqa: B008
    """Read ``redis://``, ``rediss://`` (TLS), ``unix://`` and ``redis+sentinel://`` URLs (also with TLS).

    Credentials are percent-decoded; a password without a name is the user ``default``'s. ``rediss``
    verifies the certificate and the host name. A path is the number of the database for histories and
    presence; messages are seen in all databases. ``timeouts`` hold unless the URL has others.

    Raises ValueError with one line that says what is wrong and what would be right. The line never shows
    a part of the credentials.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError(f"{_without_secrets(url)!r} is no Redis URL; right would be {_EXAMPLES}")
    scheme, authority, path, query = match.groups()
    _check_credentials(scheme, authority, path, query)
    credentials, _, hosts = authority.rpartition("@")
    parameters = _parameters(query)
    service = None
    if scheme == "unix":
        addresses, path = _unix_address(hosts, path), ""
    elif scheme.endswith("+sentinel"):
        addresses = _addresses(hosts, SENTINEL_PORT)
        service, path = _service(path)
    else:
        addresses = _addresses(hosts, DEFAULT_PORT)
    values = _values(parameters)
    username, _, password = credentials.partition(":")
    if username:
        values["username"] = unquote(username)
    if password:
        values["password"] = unquote(password)
    if path.strip("/"):
        values["database"] = _database(path)
    return RedisUrl(
        addresses=addresses,
        tls=_tls_context(parameters) if scheme.startswith("rediss") else None,
        service=service,
        timeouts=attrs.evolve(timeouts, **_seconds(parameters)),
        **values,
    )


def _without_secrets(url: str) -> str:
    _, at, after = url.rpartition("@")
    scheme = re.match("[a-z+]+://", url)
    return f"{scheme[0] if scheme else ''}***@{after}" if at else url


def _check_credentials(scheme: str, authority: str, path: str, query: str) -> None:
    """Refuse credentials whose end cannot be told, since they hold what has a meaning in a URL."""
    credentials, _, hosts = authority.rpartition("@")
    names_files = (
        scheme.startswith("rediss")
        and query.startswith(tuple(f"{name}=" for name in _TLS_PARAMETERS))
        and all(map(_HOST_AND_PORT.fullmatch, hosts.split(",")))
    )
    beyond = path if names_files else path + query
    if "#" in path + query or (authority and "@" in beyond) or _STRAY_PERCENT.search(credentials):
        raise ValueError(_PERCENT_ENCODE)


def _addresses(hosts: str, default_port: int) -> tuple[Address, ...]:
    addresses = []
    for text in (hosts or "localhost").split(","):
        match = _HOST_AND_PORT.fullmatch(text)
        port = int(match["port"] or default_port) if match else 0
        if match is None or not 0 < port < 65536:
            raise ValueError(f"{text!r} in the Redis URL is no host:port; right would be {_EXAMPLES}")
        addresses.append(Address(match["ipv6"] or match["name"].lower(), port))
    return tuple(addresses)


def _unix_address(hosts: str, path: str) -> tuple[Address, ...]:
    if hosts or not path:
        raise ValueError("a unix:// URL needs the path of the socket, as in unix:///run/redis/redis.sock")
    return (Address(unquote(path), 0),)


def _service(path: str) -> tuple[str, str]:
    """The name of what Sentinels watch, and the rest of the path."""
    service, _, rest = path.removeprefix("/").partition("/")
    if not service:
        raise ValueError("Sentinels need the name of what they watch: redis+sentinel://host1,host2/mymaster")
    return unquote(service), rest


def _database(path: str) -> int:
    if not _NUMBER.fullmatch(text := path.strip("/")):
        raise ValueError(f"what follows the host in the Redis URL is no database; right would be {_EXAMPLES}")
    return int(text)


def _parameters(query: str) -> Mapping[str, str]:
    """The parameters by name. The error for one that is not known does not show what may be a secret."""
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    for name in sorted(parameters):
        if name in _NOT_NEEDED:
            why = _NOT_NEEDED[name]
            raise ValueError(f"leave {name!r} out of the Redis URL, it is not needed here: {why}")
        if name not in _KNOWN:
            shown = "a parameter" if "@" in query or "password" in query else f"parameter {name!r}"
            raise ValueError(f"unknown {shown} in the Redis URL; known are {', '.join(_KNOWN)}")
    return parameters


def _values(parameters: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {name: parameters[name] for name in _TEXTS if name in parameters}
    database, name = parameters.get("db", "0"), parameters.get("client_name", "")
    if not _NUMBER.fullmatch(database):
        raise ValueError("the parameter 'db' of the Redis URL is a whole number")
    if not name.isprintable() or " " in name:
        raise ValueError("the parameter 'client_name' of the Redis URL has blanks in it")
    if parameters.get("protocol", "3") != "3":
        raise ValueError("the broker speaks RESP3 only: leave 'protocol' out of the Redis URL, or give 3")
    return values | {"database": int(database)}


def _seconds(parameters: Mapping[str, str]) -> dict[str, float]:
    timeouts = {}
    for name, field in _TIMEOUTS.items():
        if name in parameters:
            try:
                timeouts[field] = float(parameters[name])
            except ValueError:
                timeouts[field] = -1.0
            if not 0 < timeouts[field] < inf:
                raise ValueError(f"the parameter {name!r} of the Redis URL is a number of seconds above zero")
    return timeouts


def _tls_context(parameters: Mapping[str, str]) -> ssl.SSLContext:
    """A client's context: it verifies certificate and name unless the parameters say otherwise."""
    try:
        context = ssl.create_default_context(
            cafile=parameters.get("ssl_ca_certs"), capath=parameters.get("ssl_ca_path")
        )
        if certificate := parameters.get("ssl_certfile"):
            context.load_cert_chain(certificate, parameters.get("ssl_keyfile"))
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"cannot use the certificates named in the Redis URL: {error}") from error
    verify = _choice(parameters, "ssl_cert_reqs", _VERIFY, "required")
    checks_name = parameters.get("ssl_check_hostname", "true").lower() not in ("false", "no", "0")
    context.check_hostname = checks_name and verify == ssl.CERT_REQUIRED
    context.verify_mode = verify
    context.minimum_version = _choice(parameters, "ssl_min_version", _VERSIONS, "1.2")
    return context


def _choice(parameters: Mapping[str, str], name: str, among: Mapping[str, Any], default: str) -> Any:
    text = parameters.get(name, default).lower()
    if text not in among:
        raise ValueError(f"the parameter {name!r} of the Redis URL is one of {', '.join(among)}")
    return among[text]
