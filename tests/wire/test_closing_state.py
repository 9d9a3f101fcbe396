"""The closing handshake: each way through it, what is queued, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
import trio
import trio.testing
from wire_ends import ScriptedTransport

from trio_ws_app.errors import CloseReason
from trio_ws_app.protocol.closing import State
from trio_ws_app.protocol.decoder import Decoder
from trio_ws_app.settings import Settings
from trio_ws_app.wire.closing import CancelWhenGone, Closing
from trio_ws_app.wire.deadlines import Deadlines
from trio_ws_app.wire.histogram import Histogram
from trio_ws_app.wire.inbox import Inbox
from trio_ws_app.wire.outbox import Outbox
from trio_ws_app.wire.pings import Pings
from trio_ws_app.wire.timeouts import Timeouts

BYE = CloseReason(1000, "bye")
CLOSE, REPLY = b"\x88\x02\x03\xe9", b"\x88\x05\x03\xe8bye"


class Waiter:
    """What a deadline of these tests calls: nothing."""

    def on_timeout(self, now: float) -> None: ...

    def failed(self) -> None: ...


@attrs.define
class End:
    """A closing handshake and the parts that it works on."""

    now: float = 1.0
    transport: ScriptedTransport = attrs.field(factory=ScriptedTransport)
    deadlines: Deadlines = attrs.field(factory=lambda: Deadlines(lambda _when: None))
    outbox: Outbox = attrs.field(init=False)
    closing: Closing = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        pings, inbox = Pings(Histogram()), Inbox(1000, Decoder(None, 16))
        self.outbox = Outbox(self.transport, 1000)
        timeouts = Timeouts(Settings(close_timeout=5), self.deadlines, Waiter())
        self.closing = Closing(self.transport, self.outbox, inbox, pings, timeouts, lambda: self.now)

    def write(self) -> bytes:
        """Write what is queued; the bytes."""
        self.outbox.write()
        self.closing.written()
        return self.transport.taken


def send(end: End) -> None:
    end.closing.send_close(1001, "")


def receive(end: End) -> None:
    end.closing.receive_close(CloseReason(1000, "bye"))


def reply(end: End) -> None:
    end.closing.reply()


def lose(end: End) -> None:
    end.closing.lose(CloseReason(1006))


def fail(end: End) -> None:
    end.closing.fail(1002, "a mistake")


@pytest.mark.parametrize(
    ("steps", "state", "sealed", "written"),
    [
        ([], State.OPEN, False, b""),
        ([send], State.CLOSE_SENT, True, CLOSE),
        ([send, send], State.CLOSE_SENT, True, CLOSE),
        ([receive], State.CLOSE_RECEIVED, False, b""),
        ([send, receive], State.GONE, True, CLOSE),
        ([receive, reply], State.GONE, True, REPLY),
        ([receive, send], State.GONE, True, REPLY),
        ([fail], State.GONE, True, b"\x88\x0b\x03\xeaa mistake"),
        ([send, fail], State.GONE, True, CLOSE),
        ([lose], State.GONE, True, b""),
        ([send, lose], State.GONE, True, b""),
        ([receive, lose], State.GONE, True, b""),
        ([lose, lose], State.GONE, True, b""),
    ],
)
def test_each_way_to_the_end(
    steps: list[Callable[[End], None]], state: State, sealed: bool, written: bytes
) -> None:
    """After a peer's Close messages may still be sent until ours is; after ours no more."""
    end = End()
    for step in steps:
        step(end)
    assert end.closing.state == state
    assert end.outbox.sealed is sealed
    assert end.outbox.shared is not (sealed or end.closing.gone_at >= 0)
    assert end.write() == written
    assert end.closing.ended is (state is State.GONE)


@pytest.mark.parametrize("steps", [[receive, receive], [send, receive, reply]])
def test_no_side_closes_twice(steps: list[Callable[[End], None]]) -> None:
    """The table has no such row."""
    end = End()
    for step in steps[:-1]:
        step(end)
    with pytest.raises(KeyError):
        steps[-1](end)


def test_the_first_to_end_it_is_blamed() -> None:
    """What follows from that does not count; and the first reason stays."""
    end = End()
    end.now = 5.0
    end.closing.peer_is_gone(None)
    end.now = 6.0
    receive(end)
    lose(end)
    assert end.closing.closed_by == "peer"
    assert end.closing.gone_at == 5.0
    assert end.closing.reason == BYE


def test_nothing_is_sent_after_our_own_close() -> None:
    """Whatever the peer does."""
    end = End()
    end.closing.close_here()
    assert end.outbox.sealed


@pytest.mark.parametrize("steps", [[send], [receive], [receive, reply]])
def test_each_wait_of_the_closing_handshake_is_limited(steps: list[Callable[[End], None]]) -> None:
    """For the peer's Close, for what is to be answered before ours, and for the end of its side."""
    end = End()
    for step in steps:
        step(end)
    if steps == [receive]:
        end.closing.delay_reply()
    end.write()
    assert end.deadlines.next == 6.0


@pytest.mark.parametrize("room", [0, 1000])
def test_a_peer_that_does_not_answer_is_given_up(room: int) -> None:
    """In order if our Close was written, else with a reset, which gives memory back."""
    end = End()
    end.transport.room = room
    send(end)
    end.write()
    end.closing.give_up()
    assert end.transport.closed == ("orderly" if room else "reset")
    assert end.closing.ended
    assert end.outbox.is_empty()


def test_a_delayed_reply_is_given_when_its_time_is_over() -> None:
    """And then the peer gets as long for its end."""
    end = End()
    receive(end)
    end.closing.delay_reply()
    end.now = 6.0
    end.closing.give_up()
    assert end.write() == REPLY
    assert end.deadlines.next == 6.0
    end.closing.give_up()
    assert end.transport.closed == "orderly"


@pytest.mark.parametrize("ours", [True, False])
async def test_scopes_are_cancelled_at_the_end_and_no_others(ours: bool) -> None:
    """Those within the block, and those that come later; one whose block is over is left alone (G9)."""
    closing = End().closing
    before, within, after = trio.CancelScope(), trio.CancelScope(), trio.CancelScope()
    with CancelWhenGone(closing, before):
        pass
    with CancelWhenGone(closing, within):
        if ours:
            closing.close_here()
        else:
            closing.peer_is_gone(BYE)
        with CancelWhenGone(closing, after):
            assert [scope.cancel_called for scope in (before, within, after)] == [False, True, True]


async def test_tasks_wait_until_nothing_more_will_be_written() -> None:
    """All are woken; one that was cancelled is not."""
    end = End()
    woken: list[str] = []

    async def wait(name: str) -> None:
        await end.closing.waiting().park()
        woken.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "a")
        nursery.start_soon(wait, "b")
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await wait("c")
        assert woken == []
        lose(end)
    assert sorted(woken) == ["a", "b"]
    assert end.closing.ended
