"""Everything bytes-like is a binary message, everything that is a str a text, on both builds of the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum

import pytest
from wire_ends import open_ends


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
