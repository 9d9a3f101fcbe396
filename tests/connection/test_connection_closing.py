"""``aclose`` and ``close_reason``: Close frames are exchanged, bounded in time, and reported to both."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from connection_pairs import SETTINGS, Pair
from test_connection_send import stall

from trio_ws_app.connection import Connection
from trio_ws_app.duplex import duplex
from trio_ws_app.errors import CloseReason, ConnectionClosed
from trio_ws_app.patterns import consume

pytestmark = pytest.mark.usefixtures("autojump_clock")

# 1014 is legal too, but trio-websocket answers it with 1002; see the list in adapter.py.
LEGAL_CODES = [*range(1000, 1004), *range(1007, 1014), 3000, 3999, 4000, 4999]


@pytest.mark.parametrize("code", LEGAL_CODES)
async def test_code_and_reason_reach_the_peer(local: Connection, remote: Connection, code: int) -> None:
    """Every legal close code and its reason are what both sides report."""
    assert local.close_reason is None
    await local.aclose(code, "grüße")
    with pytest.raises(ConnectionClosed):
        await remote.receive()
    assert remote.close_reason == CloseReason(code, "grüße")
    assert local.close_reason is not None
    assert local.close_reason.code == code


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, -1])
async def test_codes_that_may_not_be_sent(local: Connection, remote: Connection, code: int) -> None:
    """They raise ValueError, and the connection goes on."""
    with pytest.raises(ValueError, match=str(code)):
        await local.aclose(code)
    await local.send("still here")
    assert await remote.receive() == "still here"


async def test_a_reason_that_does_not_fit(local: Connection) -> None:
    """A reason of more than 123 bytes raises ValueError; 123 bytes are fine."""
    with pytest.raises(ValueError, match="123"):
        await local.aclose(1000, "ü" * 62)
    await local.aclose(1000, "x" * 123)


async def test_closing_twice_does_nothing(local: Connection, remote: Connection) -> None:
    """The second ``aclose`` returns, and the peer sees the first one's code."""
    await local.aclose(4000)
    await local.aclose(4001)
    with pytest.raises(ConnectionClosed):
        await remote.receive()
    assert remote.close_reason == CloseReason(4000)


async def test_both_may_close_at_the_same_time(pair: Pair) -> None:
    """Two Close frames that cross end both sides without an error."""
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pair.local.aclose)
            nursery.start_soon(pair.remote.aclose)


async def test_closing_after_the_peer_did(pair: Pair) -> None:
    """``aclose`` after the peer's Close returns at once and keeps the peer's reason."""
    await pair.remote.aclose(4321, "first")
    await pair.local.wait_closed()
    with trio.fail_after(1):
        await pair.local.aclose(4000, "second")
    assert pair.local.close_reason == CloseReason(4321, "first")


async def test_what_was_sent_goes_out_before_the_close(local: Connection, remote: Connection) -> None:
    """Messages that still wait to be written are written before the Close frame."""
    for number in range(20):
        local.send_nowait(str(number))
    await local.aclose()
    assert [message async for message in remote] == [str(number) for number in range(20)]


async def test_a_close_to_a_stalled_peer_is_bounded(pair: Pair) -> None:
    """When the peer does not answer, ``aclose`` gives up after ``close_timeout`` and reports 1006."""
    await stall(pair.local)
    before = trio.current_time()
    await pair.local.aclose()
    assert SETTINGS.close_timeout is not None
    assert trio.current_time() - before <= SETTINGS.close_timeout + 0.1
    assert pair.local.close_reason is not None
    assert pair.local.close_reason.code == 1006


async def test_a_cancelled_close_ends_the_connection_at_once(pair: Pair) -> None:
    """Cancelling ``aclose`` raises Cancelled without waiting for the peer, and the connection is over."""
    await stall(pair.local)
    with trio.move_on_after(1) as scope:
        await pair.local.aclose()
    assert scope.cancelled_caught
    with trio.fail_after(1):
        await pair.local.wait_closed()
        async for _ in pair.remote:
            pass


async def test_a_close_in_a_cancelled_scope_ends_the_connection(pair: Pair) -> None:
    """Clean-up in a cancelled scope (``finally: await connection.aclose()``) leaves no open connection."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await pair.local.aclose()
    assert scope.cancelled_caught
    with trio.fail_after(1):
        await pair.remote.wait_closed()


async def test_leaving_the_async_with_block_sends_close(local: Connection, remote: Connection) -> None:
    """A connection is a Trio resource: its block ends with code 1000."""
    async with local:
        await local.send("one")
    assert [message async for message in remote] == ["one"]
    assert remote.close_reason == CloseReason(1000)


async def test_reasons_of_a_vanished_peer(pair: Pair) -> None:
    """A connection that breaks off has the reason 1006, however it is asked for."""
    pair.vanish()
    await pair.local.wait_closed()
    assert pair.local.close_reason is not None
    assert pair.local.close_reason.code == 1006
    for call in (pair.local.receive, lambda: pair.local.send("x"), pair.local.ping):
        with pytest.raises(ConnectionClosed) as caught:
            await call()
        assert caught.value.reason == pair.local.close_reason


async def test_a_producer_that_closes_ends_a_plain_consumer_too(
    local: Connection, remote: Connection, nursery: trio.Nursery
) -> None:
    """That is a way to end; who consumes afterwards has made a mistake."""

    async def produce() -> str:
        await local.aclose()
        await trio.sleep_forever()
        return ""

    nursery.start_soon(consume, remote, lambda _message: None)
    ended = await duplex(local, consume=lambda _message: None, produce=produce)
    assert isinstance(ended.cause, trio.ClosedResourceError | ConnectionClosed)
    with pytest.raises(trio.ClosedResourceError):
        await local.consume_inline(lambda _message: None)
