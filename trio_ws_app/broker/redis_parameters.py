"""What may follow the question mark of a Redis URL: redis-py's names, as far as they mean something here."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from functools import partial
from math import isfinite
from typing import Any, Final
from urllib.parse import parse_qsl

TLS_PARAMETERS: Final = (
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
    "ssl_cert_reqs",
    "ssl_min_version",
)
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


def _number(name: str, text: str) -> int:
    if not (text.isdecimal() and text.isascii() and len(text) < 10):
        raise ValueError(f"the parameter {name!r} of the Redis URL is a whole number")
    return int(text)


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not (seconds > 0 and isfinite(seconds)):
        raise ValueError(f"the parameter {name!r} of the Redis URL is a number of seconds above zero")
    return seconds


def _text(name: str, text: str) -> str:
    if not text.isprintable() or " " in text:
        raise ValueError(f"the parameter {name!r} of the Redis URL has blanks in it")
    return text


def _protocol(_name: str, text: str) -> None:
    if text != "3":
        raise ValueError("the broker speaks RESP3 only: leave 'protocol' out of the Redis URL, or give 3")


def _any(_name: str, text: str) -> str:
    return text


Read = Callable[[str, str], object]
_VALUES: Final[Mapping[str, tuple[str, Read]]] = {
    "db": ("database", _number),
    "username": ("username", _any),
    "password": ("password", _any),
    "client_name": ("client_name", _text),
    "sentinel_username": ("sentinel_username", _any),
    "sentinel_password": ("sentinel_password", _any),
    "protocol": ("", _protocol),
}
_TIMEOUTS: Final = {
    "health_check_interval": "ping_interval",
    "socket_timeout": "request",
    "socket_connect_timeout": "connect",
}
_KNOWN: Final = (*_VALUES, *_TIMEOUTS, *TLS_PARAMETERS)


def read_parameters(query: str, secret: bool) -> Mapping[str, str]:
    """The parameters by name. Raises ValueError for one that is not known, if ``secret`` unnamed."""
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    for name in sorted(parameters):
        if name in _NOT_NEEDED:
            why = _NOT_NEEDED[name]
            raise ValueError(f"leave {name!r} out of the Redis URL, it is not needed here: {why}")
        if name not in _KNOWN:
            shown = "a parameter" if secret else f"parameter {name!r}"
            raise ValueError(f"unknown {shown} in the Redis URL; known are {', '.join(_KNOWN)}")
    return parameters


def values_of(parameters: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a ``RedisUrl`` that the parameters are for. Raises ValueError."""
    values: dict[str, Any] = {}
    for name, (field, read) in _VALUES.items():
        if name in parameters:
            value = read(name, parameters[name])
            values |= {field: value} if field else {}
    timeouts = {
        field: _seconds(name, parameters[name]) for name, field in _TIMEOUTS.items() if name in parameters
    }
    return values | ({"timeouts": timeouts} if timeouts else {})


def tls_context(parameters: Mapping[str, str]) -> ssl.SSLContext:
    """A client's context: it verifies certificate and name unless the parameters say otherwise.

    Raises ValueError for files that cannot be used, or a value that is none.
    """
    choose = partial(_choice, parameters)
    try:
        context = ssl.create_default_context(
            cafile=parameters.get("ssl_ca_certs"), capath=parameters.get("ssl_ca_path")
        )
        if certificate := parameters.get("ssl_certfile"):
            context.load_cert_chain(certificate, parameters.get("ssl_keyfile"))
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"cannot use the certificates named in the Redis URL: {error}") from error
    verify = choose("ssl_cert_reqs", _VERIFY, "required")
    checks_name = parameters.get("ssl_check_hostname", "true").lower() not in ("false", "no", "0")
    context.check_hostname = checks_name and verify == ssl.CERT_REQUIRED
    context.verify_mode = verify
    context.minimum_version = choose("ssl_min_version", _VERSIONS, "1.2")
    return context


def _choice(parameters: Mapping[str, str], name: str, among: Mapping[str, Any], default: str) -> Any:
    text = parameters.get(name, default).lower()
    if text not in among:
        raise ValueError(f"the parameter {name!r} of the Redis URL is one of {', '.join(among)}")
    return among[text]
