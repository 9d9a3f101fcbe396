"""Everything bytes-like is a binary message, everything that is a str a text, on both builds of the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum

import pytest
from wire_ends import open_ends

import trio_ws_app as ws


class OwnBytes(bytes):
    """A subclass of bytes."""


class Colour(StrEnum):
    """A subclass of str."""

    RED = "red"


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (b"a", ("binary", b"a")),
        (OwnBytes(b"a"), ("binary", b"a")),
        (bytearray(b"a"), ("binary", b"a")),
        (memoryview(b"a"), ("binary", b"a")),
        ("\u20ac", ("text", "\u20ac".encode())),
        (Colour.RED, ("text", b"red")),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_is_a_message(message: str | bytes, frame: tuple[str, bytes]) -> None:
    """It is sent as its kind, by each way of sending."""

    async def fragments() -> AsyncIterator[str | bytes]:
        yield message

    async with open_ends() as ends:
        await ends.connection.send(message)
        ends.connection.send_nowait(message)
        await ends.connection.send_stream(fragments())  # type: ignore[arg-type]
        assert ends.seen() == [frame, frame, frame, ("cont", b"")]


@pytest.mark.parametrize("message", [1, None, ["a"], object()])
async def test_what_is_no_message(message: object) -> None:
    """Anything else is a TypeError, and nothing of it is sent."""
    async with open_ends() as ends:
        with pytest.raises(TypeError, match="str or bytes"):
            await ends.connection.send(message)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="str or bytes"):
            ends.connection.send_nowait(message)  # type: ignore[arg-type]
        assert ends.seen() == []


async def test_what_is_no_message_is_refused_while_the_peer_is_behind() -> None:
    """At once, and not when there is room."""
    async with open_ends(room=0) as ends:
        while ends.connection.outbox.has_room():
            ends.connection.send_nowait(bytes(10_000))
        with pytest.raises(TypeError, match="str or bytes"):
            await ends.connection.send(1)  # type: ignore[arg-type]


async def test_what_is_no_message_is_not_broadcast() -> None:
    """The list of connections need not be ours for that."""
    async with open_ends() as ends:
        with pytest.raises(TypeError, match="str or bytes"):
            ws.broadcast([ends.connection], 1)  # type: ignore[arg-type]
        assert ends.seen() == []


async def test_fragments_of_both_kinds_are_no_message() -> None:
    """The first decides; the message was begun, so that the connection is over."""

    async def fragments() -> AsyncIterator[str | bytes]:
        yield "text"
        yield b"bytes"

    async with open_ends() as ends:
        with pytest.raises(TypeError, match="all str or all bytes"):
            await ends.connection.send_stream(fragments())  # type: ignore[arg-type]
        assert ends.transport.taken.startswith(b"\x01\x04text\x88\x1e\x03\xf3")  # and then 1011
