"""The outbox: what it costs, what overtakes what, and which task waits for room."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from wire_ends import ScriptedTransport, taken, write

from trio_ws_app.primitives import BLOCKED, LOST
from trio_ws_app.protocol.frames import encode_frame
from trio_ws_app.wire.chunks import Header, Urgent
from trio_ws_app.wire.outbox import CHUNK_OVERHEAD, WRITE_LIMIT, WRITTEN, Outbox

LIMIT = 100_000


def outbox(room: int = 0, vectored: bool = True) -> Outbox:
    """An outbox on a transport that takes ``room`` bytes."""
    return Outbox(ScriptedTransport(room, vectored), LIMIT)


def test_an_outbox_counts_bytes_and_an_overhead() -> None:
    """An empty message is not free, and what is written costs nothing any more."""
    box = outbox()
    assert box.queued_cost() == 0
    for _ in range(10):
        box.push(encode_frame(2, b""))
    assert box.queued_cost() == 10 * (2 + CHUNK_OVERHEAD)
    write(box, 7)
    assert box.queued_cost() == 13 + 7 * CHUNK_OVERHEAD
    assert write(box, 13) == WRITTEN
    assert box.queued_cost() == 0
    assert box.bytes_out == 20


@pytest.mark.parametrize("size", [0, 1, 100, 10_000])
def test_an_outbox_is_bounded_whatever_the_size_of_messages(size: int) -> None:
    """What fits is decided by the cost; into an empty one anything fits."""
    box = outbox()
    assert box.fits(LIMIT * 2)
    frame = encode_frame(2, bytes(size))
    while box.fits(len(frame)):
        box.push(frame)
    assert LIMIT - len(frame) - CHUNK_OVERHEAD < box.queued_cost() <= LIMIT


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


@pytest.mark.parametrize("vectored", [True, False])
def test_chunks_leave_the_outbox_in_order(vectored: bool) -> None:
    """However many there are, and however little the transport takes at a time."""
    box = outbox(vectored=vectored)
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
    assert box.queued_cost() == 14 + 2 * CHUNK_OVERHEAD
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
    assert box.queued_cost() == 11 + 2 * CHUNK_OVERHEAD
    box.push_urgent(Urgent(b"ping "))
    box.push_streamed(b"end ")
    write(box, 100)
    assert taken(box) == b"ping begin end "
    assert box.queued_cost() == 5 + CHUNK_OVERHEAD
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
    assert box.queued_cost() == 5 + CHUNK_OVERHEAD
    box.end_stream()
    write(box, 100)
    assert taken(box) == b"begin"


def test_an_outbox_whose_transport_is_lost_says_so() -> None:
    """And can be emptied."""
    box = outbox()
    assert isinstance(box.transport, ScriptedTransport)
    box.push(b"message")
    box.transport.lost = True
    assert box.write() == LOST
    box.discard()
    assert box.is_empty()
    assert box.queued_cost() == 0


async def test_an_outbox_that_is_sealed_takes_what_went_before() -> None:
    """What waits is written, and a task that waits for room learns that there will be none."""
    box = outbox()
    box.push(bytes(WRITE_LIMIT))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.waiting().park)
        await trio.testing.wait_all_tasks_blocked()
        box.seal()
    assert box.sealed
    assert not box.shared
    assert write(box, 1 << 20) == WRITTEN
    assert len(taken(box)) == WRITE_LIMIT


async def test_tasks_that_wait_for_room_are_woken_when_there_is_some() -> None:
    """All of them, in their order; one that was cancelled is not."""
    box = outbox()
    box.push(bytes(WRITE_LIMIT + 100))
    woken: list[int] = []

    async def wait(number: int) -> None:
        await box.waiting().park()
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
