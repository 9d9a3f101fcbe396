"""``send``, ``send_nowait``, ``send_stream``: whole messages or nothing, in order, within bounds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from connection_pairs import Pair

from trio_ws_app.connection import Connection
from trio_ws_app.errors import ConnectionClosed

pytestmark = pytest.mark.usefixtures("autojump_clock")

CHUNK = 64 * 1024


async def stall(connection: Connection) -> int:
    """Send to a peer that does not receive until a send waits; return how many went through."""
    sent = 0
    while True:
        with trio.move_on_after(1) as scope:
            await connection.send(sent.to_bytes(4, "big") * (CHUNK // 4))
        if scope.cancel_called:
            return sent
        sent += 1


async def drain(connection: Connection) -> list[str | bytes]:
    """Everything that comes within a second of silence."""
    messages: list[str | bytes] = []
    while True:
        with trio.move_on_after(1) as scope:
            messages.append(await connection.receive())
        if scope.cancelled_caught:
            return messages


@pytest.mark.parametrize("message", [bytearray(b"abc"), memoryview(b"abc"), b"abc"])
async def test_bytes_like_messages_are_binary(local: Connection, remote: Connection, message: bytes) -> None:
    """Whatever is like bytes is sent as a binary message."""
    await local.send(message)
    assert await remote.receive() == b"abc"


@pytest.mark.parametrize("message", [None, 1, {"a": 1}, ["a"]])
async def test_other_types_are_refused(local: Connection, remote: Connection, message: str) -> None:
    """Neither str nor bytes-like: TypeError names the type, and the connection goes on."""
    with pytest.raises(TypeError, match=type(message).__name__):
        await local.send(message)
    with pytest.raises(TypeError, match=type(message).__name__):
        local.send_nowait(message)
    await local.send("ok")
    assert await remote.receive() == "ok"


async def test_half_a_surrogate_pair_is_refused(local: Connection, remote: Connection) -> None:
    """UTF-8 cannot carry it: ValueError, and the connection goes on."""
    with pytest.raises(ValueError, match="surrogates"):
        await local.send("half \ud800")
    with pytest.raises(ValueError, match="surrogates"):
        local.send_nowait("half \ud800")
    await local.send("ok")
    assert await remote.receive() == "ok"


async def test_a_buffer_may_be_reused_after_send(local: Connection, remote: Connection) -> None:
    """What was sent does not change when the sender overwrites its buffer afterwards."""
    buffer = bytearray(b"first")
    await local.send(buffer)
    buffer[:] = b"other"
    assert await remote.receive() == b"first"


async def test_sends_from_many_tasks_stay_whole(pair: Pair) -> None:
    """Messages of tasks that send at the same time arrive whole, each task's in its order."""
    got: list[bytes] = []

    async def send_ten(name: int) -> None:
        for number in range(10):
            await pair.local.send(bytes([name, number]) * 5000)

    async with trio.open_nursery() as nursery:
        for name in range(5):
            nursery.start_soon(send_ten, name)
        while len(got) < 50:
            message = await pair.remote.receive()
            assert message == message[:2] * 5000
            got.append(bytes(message[:2]))
    for name in range(5):
        assert [pair_[1] for pair_ in got if pair_[0] == name] == list(range(10))


async def test_a_cancelled_send_tears_no_frame(pair: Pair) -> None:
    """A send that is cancelled while the peer is behind is whole or nothing, and the next one works (G2)."""
    passed = await stall(pair.local)
    assert passed > 0
    with trio.move_on_after(1):
        await pair.local.send("also cancelled")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pair.local.send, "after")
        got = await drain(pair.remote)
    chunks, rest = got[:passed], got[passed:]
    assert chunks == [number.to_bytes(4, "big") * (CHUNK // 4) for number in range(passed)]
    optional = [passed.to_bytes(4, "big") * (CHUNK // 4), "also cancelled"]
    assert [message for message in rest if message not in optional] == ["after"]
    assert pair.local.close_reason is None


async def test_a_send_that_was_cancelled_while_it_waited_sent_nothing(pair: Pair) -> None:
    """When ``send`` raises Cancelled, nothing of its message arrives."""
    await stall(pair.local)
    with trio.move_on_after(1) as scope:
        await pair.local.send("withdrawn")
    assert scope.cancelled_caught
    assert "withdrawn" not in await drain(pair.remote)


async def test_send_is_a_checkpoint(local: Connection, remote: Connection) -> None:
    """A task that is cancelled already sends nothing."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await local.send("never")
    assert scope.cancelled_caught
    await local.send("next")
    assert await remote.receive() == "next"


async def test_sending_to_a_peer_that_sent_close(pair: Pair) -> None:
    """Every way of sending raises ConnectionClosed with the peer's reason, which Trio's own code handles."""
    await pair.remote.aclose(1001, "off")
    await pair.local.wait_closed()
    with pytest.raises(ConnectionClosed, match="off"):
        await pair.local.send("x")
    with pytest.raises(trio.BrokenResourceError):
        pair.local.send_nowait("x")


async def test_a_send_that_waits_ends_when_the_peer_vanishes(pair: Pair) -> None:
    """A sender that waits for a stalled peer is told when the peer vanishes."""
    await stall(pair.local)
    caught = []

    async def send_all() -> None:
        while True:
            await pair.local.send("x" * CHUNK)

    async def send() -> None:
        with pytest.raises(ConnectionClosed):
            await send_all()
        caught.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        pair.vanish()
        with trio.fail_after(1):
            await pair.local.wait_closed()
    assert caught == [True]


async def test_after_its_own_close_a_side_sends_no_more(local: Connection) -> None:
    """All ways of sending raise ClosedResourceError."""
    await local.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await local.send("x")
    with pytest.raises(trio.ClosedResourceError):
        local.send_nowait("x")
    with pytest.raises(trio.ClosedResourceError):
        await local.ping()


async def test_send_nowait_keeps_the_order(local: Connection, remote: Connection) -> None:
    """``send_nowait`` and ``send`` share one queue."""
    local.send_nowait("one")
    local.send_nowait(b"two")
    await local.send("three")
    assert [await remote.receive() for _ in range(3)] == ["one", b"two", "three"]


async def test_send_nowait_is_bounded(pair: Pair) -> None:
    """With ``max_queue_bytes`` waiting, it raises WouldBlock and sends nothing; later all arrive."""
    sent = 0

    async def send_all() -> None:
        nonlocal sent
        while sent < 3000:
            pair.local.send_nowait(sent.to_bytes(4, "big") * 1024)
            sent += 1
            await trio.testing.wait_all_tasks_blocked()

    with pytest.raises(trio.WouldBlock):
        await send_all()
    assert await drain(pair.remote) == [number.to_bytes(4, "big") * 1024 for number in range(sent)]
    pair.local.send_nowait("room again")
    assert await pair.remote.receive() == "room again"


@pytest.mark.parametrize("pieces", [["grü", "ße", ""], [b"a", b"", b"bc"]])
async def test_a_stream_of_fragments_is_one_message(
    local: Connection, remote: Connection, pieces: list[str] | list[bytes]
) -> None:
    """The pieces of ``send_stream`` arrive joined, as one message of their type."""

    async def fragments() -> AsyncIterator[str | bytes]:
        for piece in pieces:
            await trio.sleep(1)
            yield piece

    await local.send_stream(fragments())
    assert await remote.receive() == type(pieces[0])().join(pieces)


async def test_a_stream_that_fails_does_not_look_whole(local: Connection, remote: Connection) -> None:
    """When the iterable raises, its exception comes out and no message arrives that looks complete."""

    async def fragments() -> AsyncIterator[str]:
        yield "half"
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        await local.send_stream(fragments())
    assert await drain_or_end(remote) == []


async def drain_or_end(connection: Connection) -> list[str | bytes]:
    try:
        return await drain(connection)
    except ConnectionClosed:
        return []
