"""The outbox: what it costs, what overtakes what, and what an overflow policy may drop."""

from __future__ import annotations

import time
import tracemalloc

import pytest
import trio
import trio.testing
from wire_ends import ScriptedTransport

from trio_ws_app.primitives import BLOCKED, LOST
from trio_ws_app.protocol.frames import Frame, encode_frame
from trio_ws_app.wire.outbox import CHUNK_OVERHEAD, WRITE_LIMIT, WRITTEN, Header, Outbox, Urgent

LIMIT = 100_000


def outbox(room: int = 0, gathers: bool = True, limit: int = LIMIT) -> Outbox:
    """An outbox on a transport that takes ``room`` bytes."""
    return Outbox(ScriptedTransport(room, gathers), limit)


def taken(box: Outbox) -> bytes:
    """What its transport has taken."""
    assert isinstance(box.transport, ScriptedTransport)
    return box.transport.taken


def write(box: Outbox, room: int) -> int:
    """Let the transport take ``room`` more bytes."""
    assert isinstance(box.transport, ScriptedTransport)
    box.transport.room = room
    return box.write()


def test_an_outbox_counts_bytes_and_an_overhead() -> None:
    """An empty message is not free, and what is written costs nothing any more."""
    box = outbox()
    assert box.cost == 0
    for _ in range(10):
        box.push(encode_frame(2, b""))
    assert box.cost == 10 * (2 + CHUNK_OVERHEAD)
    write(box, 7)
    assert box.cost == 13 + 7 * CHUNK_OVERHEAD
    assert write(box, 13) == WRITTEN
    assert box.cost == 0
    assert box.bytes_out == 20


@pytest.mark.parametrize("size", [0, 1, 100, 10_000])
def test_an_outbox_is_bounded_whatever_the_size_of_messages(size: int) -> None:
    """What fits is decided by the cost; into an empty one anything fits."""
    box = outbox()
    assert box.fits(LIMIT * 2)
    frame = encode_frame(2, bytes(size))
    while box.fits(len(frame)):
        box.push(frame)
    assert LIMIT - len(frame) - CHUNK_OVERHEAD < box.cost <= LIMIT


def test_a_send_waits_while_much_is_queued() -> None:
    """There is room below the limit for writing, however small the messages are."""
    box = outbox()
    box.push(bytes(WRITE_LIMIT))
    assert not box.has_room()
    box = outbox()
    for _ in range(WRITE_LIMIT // (2 + CHUNK_OVERHEAD) + 1):
        box.push(b"\x82\x00")
    assert not box.has_room()
    write(box, 1000)
    assert box.has_room()


@pytest.mark.parametrize("gathers", [True, False])
def test_chunks_leave_the_outbox_in_order(gathers: bool) -> None:
    """However many there are, and however little the transport takes at a time."""
    box = outbox(gathers=gathers)
    frames = [encode_frame(2, bytes([number % 256]) * (number * 37 % 2000)) for number in range(600)]
    for frame in frames:
        box.push(frame)
    step = 1
    while (outcome := write(box, step)) == BLOCKED:
        step = step * 3 % 40_009 + 1
    assert outcome == WRITTEN
    assert taken(box) == b"".join(frames)
    assert box.is_empty()


def test_an_urgent_chunk_overtakes_messages_and_no_other_urgent_one() -> None:
    """Control frames go out in their order, ahead of what waits."""
    box = outbox()
    box.push(b"message")
    box.push_urgent(Urgent(b"first "))
    box.push_urgent(Urgent(b"second "))
    write(box, 100)
    assert taken(box) == b"first second message"


@pytest.mark.parametrize("sent", range(1, 13))
def test_an_urgent_chunk_waits_for_the_end_of_a_frame_that_has_begun(sent: int) -> None:
    """Within a header, and between a header and its payload, nothing may come (RFC 6455, section 5.4)."""
    box = outbox()
    box.push(Header(b"head"))
    box.push(b"-payload")
    box.push(b" next")
    write(box, sent)
    box.push_urgent(Urgent(b" pong"))
    write(box, 100)
    assert taken(box) == b"head-payload pong next"


def test_an_urgent_chunk_takes_the_place_of_the_one_it_supersedes() -> None:
    """One answer waits, to the latest ping; one that is on its way is not touched."""
    box = outbox()
    box.push(b"message")
    first, second = Urgent(b"first "), Urgent(b"second ")
    box.push_urgent(first)
    box.push_urgent(second, first)
    assert box.cost == 14 + 2 * CHUNK_OVERHEAD
    write(box, 3)
    box.push_urgent(Urgent(b"third "), second)
    write(box, 100)
    assert taken(box) == b"second third message"


def test_messages_wait_for_the_end_of_a_streamed_one() -> None:
    """They count meanwhile, and no send may add to them."""
    box = outbox()
    box.begin_stream()
    box.push_streamed(b"begin ")
    box.push(b"other")
    assert not box.has_room()
    assert box.cost == 11 + 2 * CHUNK_OVERHEAD
    box.push_urgent(Urgent(b"ping "))
    box.push_streamed(b"end ")
    write(box, 100)
    assert taken(box) == b"ping begin end "
    assert box.cost == 5 + CHUNK_OVERHEAD
    box.end_stream()
    write(box, 100)
    assert taken(box).endswith(b"end other")


def test_what_waits_for_a_streamed_message_that_breaks_off_is_dropped() -> None:
    """And costs nothing any more."""
    box = outbox()
    box.begin_stream()
    box.push_streamed(b"begin")
    box.push(b"other")
    box.drop_held()
    assert box.cost == 5 + CHUNK_OVERHEAD
    box.end_stream()
    write(box, 100)
    assert taken(box) == b"begin"


def test_the_oldest_shared_frames_are_dropped_first() -> None:
    """As many as needed, never one of the connection's own messages, and none that has begun."""
    box = outbox(limit=4 * (10 + CHUNK_OVERHEAD))
    box.push(Frame(b"1 has gone"))
    box.push(b"2 is mine ")
    box.push(Frame(b"3 is ours "))
    box.push(Frame(b"4 is ours "))
    write(box, 1)
    assert not box.fits(10)
    assert box.drop_oldest(10) == 1
    box.push(Frame(b"5 is ours "))
    write(box, 100)
    assert taken(box) == b"1 has gone2 is mine 4 is ours 5 is ours "


def test_frames_that_came_after_everything_was_dropped_can_be_dropped() -> None:
    """The oldest go first, also when the queue was emptied that way before."""
    box = outbox(limit=1000)
    for _ in range(3):
        box.push(Frame(bytes(100)))
    assert box.drop_oldest(2000) == 3
    for letter in (b"a", b"b", b"c"):
        box.push(Frame(letter * 250))
    assert box.drop_oldest(250) == 1
    write(box, 1000)
    assert taken(box) == b"b" * 250 + b"c" * 250


def test_what_may_not_be_dropped_is_looked_at_once() -> None:
    """Where a connection's own messages fill the queue, thousands of drops take no time (G10)."""
    box = outbox(limit=20_000 * (2 + CHUNK_OVERHEAD))
    while box.fits(2):
        box.push(b"\x82\x00")
    began = time.process_time()
    assert sum(box.drop_oldest(2) for _ in range(3000)) == 0
    assert time.process_time() - began < 0.5


def test_the_latest_frame_takes_the_place_of_an_older_one_with_its_key() -> None:
    """Its place in the queue, and its cost; another key's frame, and one that has begun, stay."""

    def keyed(key: str, text: bytes) -> Frame:
        frame = Frame(text)
        frame.key = key
        return frame

    box = outbox()
    box.push(keyed("a", b"a1 "))
    box.push(keyed("b", b"b1 "))
    write(box, 1)
    assert not box.replace_latest(keyed("a", b"a2 "))
    box.push(keyed("a", b"a2 "))
    assert box.replace_latest(keyed("b", b"longer "))
    assert box.cost == 2 + 7 + 3 + 3 * CHUNK_OVERHEAD
    box.begin_stream()
    box.push(keyed("c", b"c1 "))
    assert box.replace_latest(keyed("c", b"c2 "))
    box.end_stream()
    write(box, 100)
    assert taken(box) == b"a1 longer a2 c2 "


def test_a_later_frame_does_not_grow_the_queue_beyond_its_bound() -> None:
    """It takes an older one's place only if it fits there; alone in the queue any frame does (G10)."""
    box = outbox(limit=1000)
    box.push(Frame(bytes(100)))
    box.push(bytes(500))
    assert not box.replace_latest(Frame(bytes(1000 - 500 - 2 * CHUNK_OVERHEAD + 1)))
    assert box.replace_latest(Frame(bytes(1000 - 500 - 2 * CHUNK_OVERHEAD)))
    assert box.cost == 1000
    alone = outbox(limit=1000)
    alone.push(Frame(bytes(100)))
    assert alone.replace_latest(Frame(bytes(2000)))


def test_what_was_dropped_leaves_nothing_behind() -> None:
    """However many frames give way to newer ones while a peer reads nothing (G10)."""
    box = outbox(limit=1000)
    frame = Frame(bytes(100))
    box.push(b"begun")
    write(box, 1)
    tracemalloc.start()
    for _ in range(50_000):
        box.drop_oldest(100)
        box.push(frame)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 50_000
    write(box, 1 << 20)
    assert taken(box) == b"begun" + 5 * frame
    assert box.is_empty()


def test_an_outbox_whose_transport_is_lost_says_so() -> None:
    """And can be emptied."""
    box = outbox()
    assert isinstance(box.transport, ScriptedTransport)
    box.push(b"message")
    box.transport.lost = True
    assert box.write() == LOST
    box.discard()
    assert box.is_empty()
    assert box.cost == 0


async def test_tasks_that_wait_for_room_are_woken_when_there_is_some() -> None:
    """All of them, in their order; one that was cancelled is not."""
    box = outbox()
    box.push(bytes(WRITE_LIMIT + 100))
    woken: list[int] = []

    async def wait(number: int) -> None:
        task = trio.lowlevel.current_task()
        box.wait(task)

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            box.leave(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)
        woken.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(wait, number)
            await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0):
            await wait(2)
        write(box, 100)
        await trio.testing.wait_all_tasks_blocked()
        assert woken == []
        write(box, 100)
        await trio.testing.wait_all_tasks_blocked()
    assert sorted(woken) == [0, 1]
