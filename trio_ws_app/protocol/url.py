"""WebSocket URLs (RFC 6455, section 3): where a client connects to and what it asks for there."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote, unquote, urlsplit

import attrs

_DEFAULT_PORTS = {"ws": 80, "wss": 443}
_SAFE = "/%:@!$&'()*+,;=~?"  # what stays as it is in a path or a query (RFC 3986, section 3.3)


@attrs.frozen
class Target:
    """``host`` and ``port`` to connect to, ``resource`` to ask for, ``secure`` for TLS.

    ``host_header`` is the ``Host`` field; ``authorization`` the field for the URL's user and password.
    """

    secure: bool
    host: str
    port: int
    resource: str
    authorization: str | None = None

    @property
    def bracketed_host(self) -> str:
        """The host as URLs write it: an IPv6 address has brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def host_header(self) -> str:
        if self.port == _DEFAULT_PORTS["wss" if self.secure else "ws"]:
            return self.bracketed_host
        return f"{self.bracketed_host}:{self.port}"


def parse_url(url: str) -> Target:
    """Take a ``ws://`` or ``wss://`` URL apart. Raises ValueError that says what is wrong with it."""
    shown = repr(without_secrets(url))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its text may have the password, and so may what precedes a "?" in one
        if "@" in url:
            shown = repr(url.partition("://")[0] + "://" + without_secrets(url.rpartition("@")[2]))
        raise ValueError(f"{shown} is no URL: its host or port cannot be read") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"{shown} does not begin with ws:// or wss://")
    if not parts.hostname:
        raise ValueError(f"{shown} names no host")
    if "#" in url:
        raise ValueError(f"{shown} has a fragment, which WebSocket URLs may not have: write # as %23")
    return Target(
        secure=parts.scheme == "wss",
        host=_ascii_host(parts.hostname),
        port=_DEFAULT_PORTS[parts.scheme] if port is None else port,
        resource=quote(parts.path or "/", _SAFE) + (f"?{quote(parts.query, _SAFE)}" if parts.query else ""),
        authorization=None if parts.username is None else _basic(parts.username, parts.password or ""),
    )


def without_secrets(url: str) -> str:
    """The URL without user, password and query, for messages and logs; it need not be a valid one.

    >>> without_secrets("wss://ann:secret@example.com/room?token=abc")
    'wss://example.com/room'
    """
    start, mark, rest = url.partition("?")[0].rpartition("://")
    return f"{start}{mark}{rest.rpartition('@')[2]}"


def _ascii_host(host: str) -> str:
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        raise ValueError(f"{host!r} is no host name") from None


def _basic(user: str, password: str) -> str:
    """HTTP's basic authentication (RFC 7617)."""
    return "Basic " + b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
