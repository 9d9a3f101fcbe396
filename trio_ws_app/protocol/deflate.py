"""Compression of messages, permessage-deflate (RFC 7692): what is agreed on, and the codec."""

from __future__ import annotations

import re
import zlib
from sys import maxsize

import attrs

from ..errors import CloseCode
from .closing import ProtocolError
from .header_lists import parse_extensions

EXTENSION = "permessage-deflate"
# Windows of 4 KiB hold the messages that compression is for, at an eighth of the largest window's memory.
PREFERRED_WINDOW_BITS = 12

_MEMORY_LEVEL = 5  # for the compressor's tables as little memory as for its window
_MOST_FINAL_BLOCKS = 16  # each costs a new context; senders that use them have one in a message
_TAIL = b"\x00\x00\xff\xff"
# The parameters of an offer, each of which comes once, and what may be their values (7.1).
_PARAMETERS = {
    "server_no_context_takeover": re.compile(""),
    "client_no_context_takeover": re.compile(""),
    "server_max_window_bits": re.compile("[89]|1[0-5]"),
    "client_max_window_bits": re.compile("|[89]|1[0-5]"),
}


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
        if name == EXTENSION and _is_valid(parameters):
            accepted = _accept(dict(parameters))
            if accepted is not None:
                return accepted
    return None


def _is_valid(parameters: tuple[tuple[str, str | None], ...]) -> bool:
    return len(dict(parameters)) == len(parameters) and all(
        name in _PARAMETERS and _PARAMETERS[name].fullmatch(value or "") for name, value in parameters
    )


def _accept(offer: dict[str, str | None]) -> DeflateParameters | None:
    server_bits = int(offer.get("server_max_window_bits") or 15)
    if server_bits < 9:
        return None  # no deflate library compresses with a window of 256 bytes
    client_bits = 15
    if "client_max_window_bits" in offer:
        client_bits = min(int(offer["client_max_window_bits"] or 15), PREFERRED_WINDOW_BITS)
    return DeflateParameters(
        server_no_context_takeover="server_no_context_takeover" in offer,
        client_no_context_takeover="client_no_context_takeover" in offer,
        server_max_window_bits=min(server_bits, PREFERRED_WINDOW_BITS),
        client_max_window_bits=client_bits,
    )


class PerMessageDeflate:
    """Inflates what one client sends and deflates what it is sent.

    The contexts come to be with the first compressed message in their direction. With windows of 12
    bits each way, 12 KiB for inflating and up to 47 KiB for deflating stay with the connection from
    then on (with 15 bits from the client 43 KiB for inflating), and nothing without context takeover.
    """

    __slots__ = ("_deflater", "_inflater", "_max_message_size", "parameters")

    def __init__(self, parameters: DeflateParameters, max_message_size: int | None) -> None:
        self.parameters = parameters
        limit = maxsize if max_message_size is None else max_message_size
        self._max_message_size = min(limit, maxsize - 1)
        self._inflater: zlib._Decompress | None = None
        self._deflater: zlib._Compress | None = None

    def inflate(self, payload: bytes) -> bytes:
        """The message whose compressed form is ``payload`` (7.2.2).

        Raises ProtocolError: 1009 as soon as more than ``max_message_size`` bytes come out, 1007 for
        data that is no deflate stream. The connection cannot go on after either.
        """
        if not payload:
            return b""  # deflate never makes this, but senders that flush without new data do
        data, message = payload + _TAIL, b""
        inflater = self._inflater or self._new_inflater()
        for _ in range(_MOST_FINAL_BLOCKS + 1):
            message += self._inflate(inflater, data, len(message))
            if not inflater.eof:
                break
            # A final block ends the deflate stream but not the message (7.2.3.4). What follows starts without
            # history: no compressor keeps it over a final block.
            data, inflater = inflater.unused_data, self._new_inflater()
        else:
            raise ProtocolError(CloseCode.POLICY_VIOLATION, "too many final blocks in a message")
        self._inflater = None if self.parameters.client_no_context_takeover else inflater
        return message

    def _inflate(self, inflater: zlib._Decompress, data: bytes, before: int) -> bytes:
        limit = self._max_message_size
        try:
            # One byte beyond the limit tells that it is exceeded; it is never 0, which means no limit.
            message = inflater.decompress(data, limit - before + 1)
        except zlib.error:
            raise ProtocolError(CloseCode.INVALID_PAYLOAD, "compressed data is corrupt") from None
        if before + len(message) > limit:
            raise ProtocolError(CloseCode.MESSAGE_TOO_BIG, f"message over {limit} bytes when inflated")
        return message

    def _new_inflater(self) -> zlib._Decompress:
        return zlib.decompressobj(-self.parameters.client_max_window_bits)

    def deflate(self, message: bytes) -> bytes:
        """The compressed form of ``message`` (7.2.1), which has to be sent: later ones may refer to it."""
        if self.parameters.server_no_context_takeover:
            return deflate_once(self.parameters, message)
        if self._deflater is None:
            self._deflater = _new_deflater(self.parameters)
        return _deflated(self._deflater, message)

    def restart(self) -> None:
        """Deflate the next message without history, because one from ``deflate_once`` goes before it.

        The client's window moves on with every message, and references count backwards from its end:
        behind a message that our compressor has not seen, its references would miss. A compressor
        without history makes none, and whatever is in the client's window does not matter to it. It
        does not matter either when the message from ``deflate_once`` is dropped in the end.
        """
        self._deflater = None


def deflate_once(parameters: DeflateParameters, message: bytes) -> bytes:
    """``message`` compressed for every client that agreed on the same ``server_max_window_bits``.

    It refers to nothing before it, so any of these clients can inflate it at any time; one with
    context takeover needs ``restart`` then.
    """
    return _deflated(_new_deflater(parameters), message)


def _new_deflater(parameters: DeflateParameters) -> zlib._Compress:
    return zlib.compressobj(wbits=-parameters.server_max_window_bits, memLevel=_MEMORY_LEVEL)


def _deflated(deflater: zlib._Compress, message: bytes) -> bytes:
    return (deflater.compress(message) + deflater.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]
