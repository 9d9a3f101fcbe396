"""Requests, responses and headers of the opening handshake, as values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, unquote

import attrs

from .headers import Headers as Headers  # others import it from here

PHRASES = {int(status): status.phrase for status in HTTPStatus}
_PLAIN_PATH = re.compile(r"/[^%?#]*")
_NO_PARAMS: Mapping[str, Any] = MappingProxyType({})
_TARGET = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)?([^?#]*)(?:\?([^#]*))?")


class State(dict[str, Any]):
    """Values by name: ``state["user"]`` and ``state.user`` are the same.

    A name that is a dict's own, such as ``items``, can only be set by ``state["items"]``.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"nothing has set {name!r} in this request's state") from None

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(dict, name):
            raise AttributeError(f"{name!r} is a method of every dict: set state[{name!r}]")
        self[name] = value

    def __delattr__(self, name: str) -> None:
        self.__getattr__(name)  # which raises AttributeError if there is none
        del self[name]


@attrs.define
class Upgrade:
    """What the answer 101 is to say beside what the protocol demands; ``process_request`` sets it.

    ``headers`` are added as they are, several of one name too: ``headers.append(("Set-Cookie", "a=1"))``.
    ``subprotocol`` is one of ``request.subprotocols``, or None to leave the choice to the setting. A header
    that HTTP or the handshake forbids, or a subprotocol that was not offered, is answered with 500.
    """

    headers: list[tuple[str, str]] = attrs.field(factory=list)
    subprotocol: str | None = None


@attrs.frozen
class TLS:
    """What was agreed on in the TLS handshake of a connection.

    ``version`` is like ``TLSv1.3``, ``cipher`` OpenSSL's name of the suite, ``alpn`` the protocol (RFC 7301),
    ``server_name`` the name that the client has asked for (SNI, RFC 6066): None if it has asked for none, or
    the TLS is a listener's own. ``certificate`` is the client's, verified, as ``ssl.SSLSocket.getpeercert``
    gives it, and ``certificate_der`` the whole of it; None if it has sent none.
    """

    version: str
    cipher: str
    alpn: str | None = None
    server_name: str | None = None
    certificate: Mapping[str, object] | None = attrs.field(default=None, repr=False)
    certificate_der: bytes | None = attrs.field(default=None, repr=False)


@attrs.frozen
class Request:
    """The request that opens a connection (RFC 6455, section 4.1).

    ``target`` is as sent. ``client`` is the IP address and port that it came from, None for a Unix socket or
    a stream in memory; a trusted proxy says both for its clients, port 0 if not known. ``scheme`` is ``http``
    or, over TLS, ``https``; ``tls`` is None without TLS, or if a proxy ends it. ``server`` is the address and
    port that it came to, or a Unix socket's path and None; None in memory. ``path_params`` are the parameters
    that ``Routes`` has found in the path, by name and converted; else empty.
    """

    method: str
    target: str = attrs.field(repr=lambda target: repr(target.partition("?")[0]))  # a query may hold a token
    headers: Headers = attrs.field(factory=Headers)
    client: tuple[str, int] | None = None
    scheme: str = attrs.field(default="http", kw_only=True)
    server: tuple[str, int | None] | None = attrs.field(default=None, kw_only=True)
    tls: TLS | None = attrs.field(default=None, eq=False, kw_only=True)
    _state: State | None = attrs.field(default=None, init=False, eq=False, repr=False)
    _upgrade: Upgrade | None = attrs.field(default=None, init=False, eq=False, repr=False)
    path_params: Mapping[str, Any] = attrs.field(default=_NO_PARAMS, init=False, eq=False, repr=False)

    @property
    def certificate(self) -> Mapping[str, object] | None:
        """The client's verified TLS certificate, see ``TLS``; None if there is none."""
        return None if self.tls is None else self.tls.certificate

    @property
    def state(self) -> State:
        """Values of the application: what ``process_request`` puts here, the handler finds here."""
        if self._state is None:
            object.__setattr__(self, "_state", State())
        assert self._state is not None
        return self._state

    @property
    def upgrade(self) -> Upgrade:
        """What the answer 101 is to say; nothing reads it once that is sent."""
        if self._upgrade is None:
            object.__setattr__(self, "_upgrade", Upgrade())
        assert self._upgrade is not None
        return self._upgrade

    def set_path_params(self, params: Mapping[str, Any]) -> None:
        """Set ``path_params``, which is for what dispatches by path."""
        object.__setattr__(self, "path_params", MappingProxyType(dict(params)))

    @property
    def subprotocols(self) -> tuple[str, ...]:
        """The subprotocols that the client offers, the preferred one first."""
        offers = ",".join(self.headers.get_all("sec-websocket-protocol"))
        return tuple(offer.strip() for offer in offers.split(",") if offer.strip())

    @property
    def path(self) -> str:
        """The decoded path, without the query."""
        if _PLAIN_PATH.fullmatch(self.target):
            return self.target
        return unquote(split_target(self.target)[0]) or "/"

    @property
    def query(self) -> Mapping[str, str]:
        """The decoded query: each name with its last value."""
        return MappingProxyType(dict(parse_qsl(split_target(self.target)[1], keep_blank_values=True)))

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies of the request (RFC 6265, section 5.4): each name with its first value."""
        cookies: dict[str, str] = {}
        for field in self.headers.get_all("cookie"):
            for pair in field.split(";"):
                name, equals, value = pair.partition("=")
                if equals and name.strip():
                    cookies.setdefault(name.strip(), _unquoted(value.strip()))
        return MappingProxyType(cookies)


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value


def split_target(target: str) -> tuple[str, str]:
    """Path and query of a target: of any text, since handlers read them long after it was checked."""
    match = _TARGET.match(target)
    return (match[1], match[2] or "") if match else ("", "")


def _encoded(body: str | bytes) -> bytes:
    if not isinstance(body, str | bytes | bytearray | memoryview):
        raise TypeError(f"the body of a Response is str or bytes, not {type(body).__name__}")
    return body.encode() if isinstance(body, str) else bytes(body)


@attrs.frozen
class Response:
    """An HTTP answer instead of a WebSocket: ``Response(401, "who are you?")``.

    ``body`` is sent with a Content-Length; a text is encoded as UTF-8. ``headers`` that have a name several
    times are ``Headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])``. The server closes the HTTP
    connection after it.

    Raises TypeError for a status, body or headers of a wrong type.
    """

    status: int = 200
    body: bytes = attrs.field(default=b"", converter=_encoded)
    headers: Mapping[str, str] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.status, int) or isinstance(self.status, bool):
            raise TypeError(f"the status of a Response is an int, not {type(self.status).__name__}")
        if not isinstance(self.headers, Mapping):
            raise TypeError(f"the headers of a Response are a mapping, not {type(self.headers).__name__}")
        for name, value in self.headers.items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise TypeError(f"the headers of a Response are str by str, which {name!r}: {value!r} is not")

    @property
    def phrase(self) -> str:
        """The status in words, as HTTP calls it."""
        return PHRASES.get(self.status, "")
