"""Compression of messages, permessage-deflate (RFC 7692): what is agreed on, and the codec."""

from __future__ import annotations

import re

import attrs

from .tokens import parse_extensions

EXTENSION = "permessage-deflate"
# Windows of 4 KiB hold the messages that compression is for, at an eighth of the largest window's memory.
PREFERRED_WINDOW_BITS = 12

_WINDOW_BITS = re.compile("[89]|1[0-5]")


@attrs.frozen
class DeflateParameters:
    """What client and server agreed on. Window sizes are in bits: 9 to 15, the client's also 8."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15

    @property
    def header(self) -> str:
        """The value of Sec-WebSocket-Extensions that tells the client."""
        header = EXTENSION
        if self.server_no_context_takeover:
            header += "; server_no_context_takeover"
        if self.client_no_context_takeover:
            header += "; client_no_context_takeover"
        if self.server_max_window_bits < 15:
            header += f"; server_max_window_bits={self.server_max_window_bits}"
        if self.client_max_window_bits < 15:
            header += f"; client_max_window_bits={self.client_max_window_bits}"
        return header


def negotiate(offers: str) -> DeflateParameters | None:
    """Accept the first acceptable offer of a client's Sec-WebSocket-Extensions header, if there is one.

    Raises ValueError when the header is malformed.
    """
    for name, parameters in parse_extensions(offers):
        if name == EXTENSION:
            accepted = _accept(dict(parameters)) if _well_formed(parameters) else None
            if accepted is not None:
                return accepted
    return None


def _well_formed(parameters: tuple[tuple[str, str | None], ...]) -> bool:
    """Whether an offer has only known parameters, each once, with a value where it needs one (7.1)."""
    names = [name for name, _ in parameters]
    return len(names) == len(set(names)) and all(_valid(name, value) for name, value in parameters)


def _valid(name: str, value: str | None) -> bool:
    if name in ("server_no_context_takeover", "client_no_context_takeover"):
        return value is None
    if name == "client_max_window_bits" and value is None:
        return True
    if name in ("server_max_window_bits", "client_max_window_bits"):
        return value is not None and _WINDOW_BITS.fullmatch(value) is not None
    return False


def _accept(offer: dict[str, str | None]) -> DeflateParameters | None:
    server_bits = int(offer.get("server_max_window_bits") or 15)
    if server_bits < 9:
        return None  # no deflate library compresses with a window of 256 bytes
    client_bits = 15
    if "client_max_window_bits" in offer:
        client_bits = int(offer["client_max_window_bits"] or 15)
        client_bits = min(client_bits, PREFERRED_WINDOW_BITS)
    return DeflateParameters(
        server_no_context_takeover="server_no_context_takeover" in offer,
        client_no_context_takeover="client_no_context_takeover" in offer,
        server_max_window_bits=min(server_bits, PREFERRED_WINDOW_BITS),
        client_max_window_bits=client_bits,
    )
