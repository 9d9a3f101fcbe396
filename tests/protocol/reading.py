"""Helpers of the wire's tests: feed a decoder and note all that comes out of it."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType

import attrs

from trio_ws_app.errors import CloseCode
from trio_ws_app.protocol.errors import ProtocolError


@attrs.frozen
class Reading:
    """What a decoder made of a stream: ``failure`` is the close code that ended it, if one did."""

    messages: list[str | bytes]
    controls: list[object]
    failure: CloseCode | None
    closed: bool


def read(wire: ModuleType, pieces: Iterable[bytes], **options: object) -> Reading:
    """What ``wire.Decoder(**options)`` makes of a stream that arrives in these ``pieces``."""
    decoder = wire.Decoder(**({"max_message_size": 1 << 20, "max_fragments": 1000} | options))
    messages: list[str | bytes] = []
    failure, text = None, ""
    try:
        for piece in pieces:
            before = len(messages)
            # The reactor's buffer is larger than what was read into it.
            taken = decoder.feed(bytearray(piece) + b"\xff" * 3, len(piece), messages)
            assert taken >= sum(map(len, messages[before:]))
    except ProtocolError as error:
        failure, text = error.code, str(error)
    assert len(text.encode()) <= 123, "it has to fit into a Close"
    # Both builds have classes of their own: compare what they say.
    controls = [(type(control).__name__, *attrs.astuple(control)) for control in decoder.controls]
    return Reading(messages, controls, failure, bool(decoder.closed))


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """``data`` in pieces, cut at these places (modulo its length)."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
