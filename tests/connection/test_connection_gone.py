"""The end is noticed by all that works for the peer, also without a receiver (G9); pings; properties."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from connection_pairs import Pair

from trio_ws_app.connection import Connection
from trio_ws_app.errors import ConnectionClosed

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def send_close(pair: Pair) -> None:
    await pair.remote.aclose()


async def vanish(pair: Pair) -> None:
    pair.vanish()


async def close_here(pair: Pair) -> None:
    await pair.local.aclose()


ENDS = [send_close, vanish, close_here]
End = Callable[[Pair], Awaitable[None]]


@pytest.mark.parametrize("end", ENDS)
async def test_work_for_the_peer_is_cancelled(pair: Pair, end: End, nursery: trio.Nursery) -> None:
    """Idle blocks under ``cancel_when_gone`` are cancelled within 100 ms without a receiver."""
    ended = []

    async def work() -> None:
        with trio.CancelScope() as scope, pair.local.cancel_when_gone(scope):
            await trio.sleep_forever()
        ended.append(trio.current_time())

    nursery.start_soon(work)
    nursery.start_soon(work)
    await trio.testing.wait_all_tasks_blocked()
    before = trio.current_time()
    nursery.start_soon(end, pair)
    await trio.sleep(0.1)
    assert len(ended) == 2
    assert max(ended) - before <= 0.1


@pytest.mark.parametrize("end", ENDS)
async def test_wait_closed_returns(pair: Pair, end: End, nursery: trio.Nursery) -> None:
    """All tasks that wait for the end are told, also when it has been a while."""
    nursery.start_soon(end, pair)
    with trio.fail_after(0.1):
        await pair.local.wait_closed()
    with trio.fail_after(0.1):
        await pair.local.wait_closed()


async def test_messages_remain_after_the_end_was_noticed(pair: Pair) -> None:
    """Noticing the end throws nothing away: what arrived before it can still be received."""
    await pair.remote.send("one")
    await pair.remote.aclose()
    await pair.local.wait_closed()
    assert [message async for message in pair.local] == ["one"]


async def test_a_block_that_begins_after_the_end_is_cancelled(pair: Pair) -> None:
    """``cancel_when_gone`` on a connection that is over cancels at once."""
    pair.vanish()
    await pair.local.wait_closed()
    with trio.CancelScope() as scope, pair.local.cancel_when_gone(scope):
        await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_block_that_has_ended_is_left_alone(pair: Pair) -> None:
    """After the block, the peer's end does not cancel its scope any more."""
    with trio.CancelScope() as scope:
        with pair.local.cancel_when_gone(scope):
            pass
        pair.vanish()
        await pair.local.wait_closed()
        await trio.sleep(1)
    assert not scope.cancel_called


async def test_ping_measures_the_round_trip(local: Connection) -> None:
    """``ping`` returns seconds and ``latency`` is the last measured one."""
    assert local.latency is None
    seconds = await local.ping()
    assert seconds >= 0
    assert local.latency == seconds


async def test_pings_are_answered_without_a_receiver(pair: Pair) -> None:
    """A pong comes from a peer whose application is busy, in both directions, several at a time."""
    await pair.remote.send("unread")
    await pair.local.send("unread")
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(pair.local.ping)
                nursery.start_soon(pair.remote.ping)


@pytest.mark.parametrize("end", [send_close, vanish])
async def test_a_ping_after_the_end(pair: Pair, end: End) -> None:
    """A ping whose pong cannot come any more raises ConnectionClosed."""
    await end(pair)
    with trio.fail_after(1), pytest.raises(ConnectionClosed):
        await pair.local.ping()


async def test_a_cancelled_ping_disturbs_nothing(local: Connection, remote: Connection) -> None:
    """After a ping that was cancelled, pings and messages work."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await local.ping()
    assert scope.cancelled_caught
    assert await local.ping() >= 0
    await local.send("one")
    assert await remote.receive() == "one"


async def test_what_a_connection_says_of_itself(local: Connection, remote: Connection) -> None:
    """Ids name connections apart; request, remote, subprotocol and close_reason are those of an open one."""
    assert local.id != remote.id
    assert local.request.method == "GET"
    assert local.request.path == "/chat"
    assert local.request.query == {"room": "1"}
    assert isinstance(local.remote, str)
    assert local.subprotocol is None
    assert local.close_reason is None
