"""Helpers of the wire's tests: feed a decoder and note all that comes out of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import attrs

from trio_ws_app.errors import CloseCode
from trio_ws_app.protocol.closing import ProtocolError


@attrs.frozen
class Reading:
    """What a decoder made of a stream: ``failure`` is the close code that ended it, if one did."""

    messages: list[str | bytes]
    controls: list[object]
    failure: CloseCode | None
    closed: bool


def read(wire: ModuleType, pieces: Iterable[bytes], rooms: Iterable[int] = (), **options: object) -> Reading:
    """What ``wire.Decoder(**options)`` makes of a stream that arrives in these ``pieces``.

    Each is fed with one of ``rooms``, and what is kept is resumed with the next one; without limit when they
    are used up.
    """
    decoder = wire.Decoder(**({"max_message_size": 1 << 20, "max_fragments": 1000} | options))
    reader = Reader(wire, decoder, iter(rooms))
    failure, text = None, ""
    try:
        for piece in pieces:
            reader.take(lambda room, piece=piece: reader.feed(piece, room))
            reader.take(reader.resume)
        while decoder.kept:
            reader.take(reader.resume)
    except ProtocolError as error:
        failure, text = error.code, str(error)
    assert len(text.encode()) <= 123, "it has to fit into a Close"
    # Both builds have classes of their own: compare what they say.
    controls = [(type(control).__name__, *attrs.astuple(control)) for control in decoder.controls]
    return Reading(reader.messages, controls, failure, bool(decoder.closed))


@attrs.define
class Reader:
    """Feeds a decoder and checks, call by call, that it keeps to the room it has."""

    wire: ModuleType
    decoder: Any
    rooms: Iterator[int]
    messages: list[str | bytes] = attrs.field(factory=list)

    def feed(self, piece: bytes, room: int) -> int:
        # The buffer of the caller is larger than what was read into it.
        cost = self.decoder.feed(bytearray(piece) + b"\xff" * 3, len(piece), self.messages, room)
        assert isinstance(cost, int)
        return cost

    def resume(self, room: int) -> int:
        cost = self.decoder.resume(self.messages, room)
        assert isinstance(cost, int)
        return cost

    def take(self, call: Callable[[int], int]) -> None:
        room = next(self.rooms, sys.maxsize)
        before = len(self.messages)
        cost = call(room)
        costs = [self.wire.message_cost(message) for message in self.messages[before:]]
        assert cost == sum(costs)
        assert sum(costs[:-1]) < room or not costs, "only the last message crosses the bound"
        assert cost >= room or not self.decoder.kept, "nothing is kept while there is room"


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """``data`` in pieces, cut at these places (modulo its length)."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
