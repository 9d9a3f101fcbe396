"""What was agreed on in a TLS handshake."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import trio

from ..request import TLS

# A socket or a stream of which the TLS handshake is done.
Secured = ssl.SSLSocket | trio.SSLStream[trio.abc.Stream]


def note_server_name(secured: ssl.SSLSocket | ssl.SSLObject, name: str | None, _context: object) -> None:
    """A ``sni_callback``: nothing else tells a server afterwards which name the client has asked for."""
    secured.server_name = name  # type: ignore[union-attr]  # an attribute of our own


def agreed(secured: Secured) -> TLS:
    """What has come of the handshake."""
    certificate: Mapping[str, object] | None = secured.getpeercert() or None  # empty if it was not verified
    cipher = secured.cipher()
    return TLS(
        version=secured.version() or "",
        cipher=cipher[0] if cipher else "",
        alpn=secured.selected_alpn_protocol(),
        server_name=getattr(secured, "server_name", None),
        certificate=certificate,
        certificate_der=secured.getpeercert(True) if certificate else None,
    )
