"""The closing state: the way through the table, and who is told of it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_ws_app.errors import CloseReason
from trio_ws_app.protocol.closing import State, Turn
from trio_ws_app.wire.closing import CancelWhenGone, Closing

SEND, RECEIVE, LOSE = Turn.SEND_CLOSE, Turn.RECEIVE_CLOSE, Turn.LOSE_PEER
BYE = CloseReason(1000, "bye")


@pytest.mark.parametrize(
    ("turns", "state", "can_send"),
    [
        ([], State.OPEN, True),
        ([SEND], State.CLOSE_SENT, False),
        ([RECEIVE], State.CLOSE_RECEIVED, True),
        ([SEND, RECEIVE], State.GONE, False),
        ([RECEIVE, SEND], State.GONE, False),
        ([LOSE], State.GONE, False),
        ([SEND, LOSE], State.GONE, False),
        ([RECEIVE, LOSE], State.GONE, False),
        ([LOSE, LOSE], State.GONE, False),
    ],
)
def test_each_way_to_the_end(turns: list[Turn], state: State, can_send: bool) -> None:
    """After a peer's Close messages may still be sent until ours is; after ours no more."""
    closing = Closing()
    for turn in turns:
        closing.turn(turn)
    assert closing.state == state
    assert closing.can_send() is can_send


@pytest.mark.parametrize("turns", [[SEND, SEND], [RECEIVE, RECEIVE], [SEND, RECEIVE, SEND]])
def test_no_side_closes_twice(turns: list[Turn]) -> None:
    """The table has no such row."""
    closing = Closing()
    for turn in turns[:-1]:
        closing.turn(turn)
    with pytest.raises(KeyError):
        closing.turn(turns[-1])


def test_the_first_to_end_it_is_blamed() -> None:
    """What follows from that does not count; and the first reason stays."""
    closing = Closing()
    closing.blame("peer")
    closing.blame("network")
    closing.peer_is_gone(5.0, None)
    closing.peer_is_gone(6.0, BYE)
    closing.peer_is_gone(7.0, CloseReason(1006))
    assert closing.closed_by == "peer"
    assert closing.gone_at == 5.0
    assert closing.reason == BYE


def test_nothing_is_sent_or_produced_after_our_own_close() -> None:
    """Whatever the peer does."""
    closing = Closing()
    assert not closing.is_over_for_producers()
    closing.close_here()
    assert not closing.can_send()
    assert closing.is_over_for_producers()


@pytest.mark.parametrize("ours", [True, False])
async def test_scopes_are_cancelled_at_the_end_and_no_others(ours: bool) -> None:
    """Those within the block, and those that come later; one whose block is over is left alone (G9)."""
    closing = Closing()
    before, within, after = trio.CancelScope(), trio.CancelScope(), trio.CancelScope()
    with CancelWhenGone(closing, before):
        pass
    with CancelWhenGone(closing, within):
        if ours:
            closing.close_here()
        else:
            closing.peer_is_gone(1.0, BYE)
        with CancelWhenGone(closing, after):
            assert [scope.cancel_called for scope in (before, within, after)] == [False, True, True]


async def test_tasks_wait_until_nothing_more_will_be_written() -> None:
    """All are woken; one that was cancelled is not."""
    closing = Closing()
    woken: list[str] = []

    async def wait(name: str) -> None:
        task = trio.lowlevel.current_task()
        closing.wait(task)

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            closing.leave(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        woken.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "a")
        nursery.start_soon(wait, "b")
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await wait("c")
        assert woken == []
        closing.end()
    assert sorted(woken) == ["a", "b"]
    assert closing.ended
