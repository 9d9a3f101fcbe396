"""The streams in memory behave as Trio's streams do, and misbehave on demand."""

from __future__ import annotations

import pytest
import trio
from trio.testing import check_half_closeable_stream, wait_all_tasks_blocked

from trio_ws_app.testing import cancel_everywhere, cancelled_here, memory_streams
from trio_ws_app.testing.streams import MemoryStream

Pair = tuple[MemoryStream, MemoryStream]


async def test_streams_in_memory_pass_trios_own_conformance_test() -> None:
    """check_half_closeable_stream finds nothing, blocked sends included."""

    async def make() -> Pair:
        return memory_streams()

    async def make_clogged() -> Pair:
        left, right = memory_streams(1)
        await left.send_all(b"x")
        await right.send_all(b"x")
        return left, right

    await check_half_closeable_stream(make, make_clogged)


@pytest.mark.usefixtures("autojump_clock")
async def test_a_stalled_peer_blocks_sending_at_the_bound() -> None:
    """What fits is accepted, the rest waits until the peer reads again."""
    left, right = memory_streams(10)
    right.stall()
    await left.send_all(b"0123456789")
    with trio.move_on_after(60) as scope:
        await left.send_all(b"x")
    assert scope.cancelled_caught
    with trio.move_on_after(60) as scope:
        await right.receive_some()
    assert scope.cancelled_caught
    right.resume()
    assert await right.receive_some() == b"0123456789"


async def test_resume_wakes_a_reader() -> None:
    """A reader that waits at a stalled end gets its bytes after resume."""
    left, right = memory_streams()
    right.stall()
    await left.send_all(b"x")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_expect, right, b"x")
        await wait_all_tasks_blocked()
        right.resume()


@pytest.mark.usefixtures("autojump_clock")
async def test_a_vanished_peer_says_nothing() -> None:
    """After vanish nothing arrives, not even an end, and sending goes into the void up to the bound."""
    left, right = memory_streams(10)
    await right.send_all(b"lost")
    right.vanish()
    await right.aclose()
    await left.send_all(b"0123456789")
    for wait in (left.receive_some, lambda: left.send_all(b"x")):
        with trio.move_on_after(60) as scope:
            await wait()
        assert scope.cancelled_caught
    await left.send_eof()
    with pytest.raises(trio.ClosedResourceError):
        await left.send_all(b"x")


async def test_an_abort_is_seen_at_once_and_loses_what_was_on_its_way() -> None:
    """A reset wakes a waiting reader, and both directions are broken."""
    left, right = memory_streams()
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await left.receive_some()

        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        await left.send_all(b"lost")
        right.abort()
    with pytest.raises(trio.BrokenResourceError):
        await left.send_all(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await right.receive_some()


async def test_trickle_delivers_byte_by_byte() -> None:
    """Every receive_some gives one byte, whatever was asked for."""
    left, right = memory_streams()
    left.trickle()
    await left.send_all(b"abc")
    assert [await right.receive_some(100) for _ in range(3)] == [b"a", b"b", b"c"]
    await right.send_all(b"abc")
    assert await left.receive_some() == b"abc"


def test_a_cancelled_receive_takes_nothing() -> None:
    """Bytes that arrive while the receiver is cancelled are there for the next one."""

    async def scenario() -> None:
        left, right = memory_streams(4)
        received = bytearray()

        async def send() -> None:
            await left.send_all(b"hello world")
            await left.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            with cancelled_here():
                for _ in range(3):
                    received += await right.receive_some(2)
            while chunk := await right.receive_some():
                received += chunk
        assert received == b"hello world"

    assert len(cancel_everywhere(scenario).points) > 3


async def _expect(stream: MemoryStream, data: bytes) -> None:
    assert await stream.receive_some() == data
