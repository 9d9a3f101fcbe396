"""The inbox: order, what there is room for, and the one task that waits."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_ws_app.wire.inbox import Inbox


@pytest.mark.parametrize("total", [1, 63, 64, 65, 1000])
def test_messages_are_taken_in_order(total: int) -> None:
    """Also when others are appended meanwhile; and none is kept alive by the inbox."""
    inbox = Inbox(100)
    taken = []
    for number in range(total):
        inbox.messages.append(number)
        inbox.messages.append(number)
        taken.append(inbox.pop())
    while inbox.count():
        taken.append(inbox.pop())
    assert taken == sorted([*range(total), *range(total)])
    assert inbox.messages == []


def test_an_inbox_has_room_again_when_every_message_was_taken() -> None:
    """So what the messages take in memory need not be known of each one."""
    inbox = Inbox(100)
    inbox.messages.extend(["a", "b"])
    inbox.added(120)
    assert inbox.room() == -20
    inbox.pop()
    assert inbox.room() == -20
    inbox.pop()
    assert inbox.room() == 100


def test_an_inbox_that_is_cleared_has_room() -> None:
    """Nothing waits to be received after this side has closed."""
    inbox = Inbox(100)
    inbox.messages.append("a")
    inbox.added(81)
    inbox.clear()
    assert inbox.count() == 0
    assert inbox.room() == 100


async def test_one_task_is_woken_once() -> None:
    """``wake`` says whether there was one; a task that has left is not woken."""
    inbox = Inbox(100)

    def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
        inbox.leave()
        return trio.lowlevel.Abort.SUCCEEDED

    async def wait() -> None:
        inbox.wait(trio.lowlevel.current_task())
        await trio.lowlevel.wait_task_rescheduled(abort)

    assert not inbox.wake()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert inbox.wake()
        assert not inbox.wake()
    with trio.move_on_after(0):
        await wait()
    assert not inbox.wake()
