"""The inbox: order, what there is room for, and the one task that waits."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from client_frames import encode_masked
from wire_ends import open_ends

from trio_ws_app.protocol.decoder import Decoder, message_cost
from trio_ws_app.protocol.frames import Opcode
from trio_ws_app.wire.inbox import Inbox


def inbox_of(limit: int) -> Inbox:
    return Inbox(limit, Decoder(None, 16))


def feed(inbox: Inbox, *messages: str) -> None:
    """The frames of these messages arrive at once."""
    data = b"".join(encode_masked(1, message.encode(), b"mask") for message in messages)
    assert inbox.feed(bytearray(data), len(data)) is None


@pytest.mark.parametrize("total", [1, 63, 64, 65, 1000])
def test_messages_are_taken_in_order(total: int) -> None:
    """Also when others are appended meanwhile; and none is kept alive by the inbox."""
    inbox = inbox_of(100)
    taken = []
    for number in range(total):
        inbox.messages.append(number)
        inbox.messages.append(number)
        taken.append(inbox.pop())
    while inbox.count():
        taken.append(inbox.pop())
    assert taken == sorted([*range(total), *range(total)])
    assert inbox.messages == []


def test_an_inbox_goes_on_when_every_message_was_taken() -> None:
    """So what the messages take in memory need not be known of each one; what was kept follows then."""
    inbox = inbox_of(2 * message_cost(""))
    feed(inbox, "a", "b", "c")
    assert inbox.pop() == "a"
    assert inbox.refill() is None
    assert inbox.messages == [None, "b"]
    assert inbox.pop() == "b"
    assert inbox.messages == []
    assert inbox.refill() is None
    assert inbox.pop() == "c"
    assert inbox.decoder.is_idle()


def test_an_inbox_that_is_cleared_has_room() -> None:
    """Nothing waits to be received after this side has closed."""
    inbox = inbox_of(100)
    feed(inbox, "a" * 100)
    inbox.clear()
    assert inbox.count() == 0
    feed(inbox, "b")
    assert inbox.pop() == "b"


def test_an_inbox_is_paused_while_as_much_is_kept_as_may_be() -> None:
    """Both changes are told."""
    inbox = inbox_of(300)
    feed(inbox, "a" * 300, "b" * 200)
    assert not inbox.pause_if_full()
    feed(inbox, "c" * 200)
    assert inbox.pause_if_full()
    assert inbox.paused
    inbox.pop()
    inbox.refill()
    assert inbox.pause_if_full()
    assert not inbox.paused


@pytest.mark.parametrize("kept", [False, True])
def test_a_mistake_is_told_behind_the_messages_before_it(kept: bool) -> None:
    """When it is decoded: also among what was kept."""
    inbox = inbox_of(50 if kept else 1000)
    data = encode_masked(1, b"good", b"mask") + encode_masked(3, b"", b"mask")
    mistake = inbox.feed(bytearray(data), len(data))
    assert inbox.pop() == "good"
    if kept:
        assert mistake is None
        mistake = inbox.refill()
    assert mistake is not None
    assert mistake.code == 1002


async def test_one_task_is_woken_once() -> None:
    """``wake`` says whether there was one; a task that has left is not woken."""
    inbox = inbox_of(100)

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


async def test_each_message_counts_once_however_many_wait() -> None:
    """Those that come in one read, behind others, and behind what the inbox holds."""
    hello = encode_masked(Opcode.TEXT, b"hello", b"abcd")
    async with open_ends(max_inbox_bytes=200) as ends:
        for count, total in ((1, 1), (1, 2), (2, 3), (2, 3)):
            ends.arrive(hello * count)
            assert ends.connection.messages_in == total
        for _ in range(6):
            assert await ends.connection.receive() == "hello"
        assert ends.connection.messages_in == 6
