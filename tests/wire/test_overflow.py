"""Overflow: which shared frames give way in a full outbox, and that finding them costs little."""

from __future__ import annotations

import time
import tracemalloc

from wire_ends import ScriptedTransport, taken, write

from trio_ws_app.protocol.frames import Frame
from trio_ws_app.wire.chunks import Urgent
from trio_ws_app.wire.outbox import CHUNK_OVERHEAD, Outbox
from trio_ws_app.wire.overflow import SharedFrames

LIMIT = 100_000


def outbox(limit: int = LIMIT) -> tuple[Outbox, SharedFrames]:
    """An outbox on a transport that takes nothing."""
    box = Outbox(ScriptedTransport(0), limit)
    return box, SharedFrames(box)


def keyed(key: object, text: bytes) -> Frame:
    frame = Frame(text)
    frame.key = key
    return frame


def test_the_oldest_shared_frames_are_dropped_first() -> None:
    """As many as needed, never one of the connection's own messages, and none that has begun."""
    box, frames = outbox(4 * (10 + CHUNK_OVERHEAD))
    box.push(Frame(b"1 has gone"))
    box.push(b"2 is mine ")
    box.push(Frame(b"3 is ours "))
    box.push(Frame(b"4 is ours "))
    write(box, 1)
    assert not box.fits(10)
    assert frames.drop_oldest(10) == 1
    box.push(Frame(b"5 is ours "))
    write(box, 100)
    assert taken(box) == b"1 has gone2 is mine 4 is ours 5 is ours "


def test_frames_that_came_after_everything_was_dropped_can_be_dropped() -> None:
    """The oldest go first, also when the queue was emptied that way before."""
    box, frames = outbox(1000)
    for _ in range(3):
        box.push(Frame(bytes(100)))
    assert frames.drop_oldest(2000) == 3
    for letter in (b"a", b"b", b"c"):
        box.push(Frame(letter * 250))
    assert frames.drop_oldest(250) == 1
    write(box, 1000)
    assert taken(box) == b"b" * 250 + b"c" * 250


def test_what_may_not_be_dropped_is_looked_at_once() -> None:
    """Where a connection's own messages fill the queue, thousands of drops take no time (G10)."""
    box, frames = outbox(20_000 * (2 + CHUNK_OVERHEAD))
    while box.fits(2):
        box.push(b"\x82\x00")
    began = time.process_time()
    assert sum(frames.drop_oldest(2) for _ in range(3000)) == 0
    assert time.process_time() - began < 0.5


def test_the_latest_frame_takes_the_place_of_an_older_one_with_its_key() -> None:
    """Its place in the queue, and its cost; another key's frame, and one that has begun, stay."""

    box, frames = outbox()
    box.push(keyed("a", b"a1 "))
    box.push(keyed("b", b"b1 "))
    write(box, 1)
    assert not frames.replace_latest(keyed("a", b"a2 "))
    box.push(keyed("a", b"a2 "))
    assert frames.replace_latest(keyed("b", b"longer "))
    assert box.queued_cost() == 2 + 7 + 3 + 3 * CHUNK_OVERHEAD
    box.begin_stream()
    box.push(keyed("c", b"c1 "))
    assert frames.replace_latest(keyed("c", b"c2 "))
    box.end_stream()
    write(box, 100)
    assert taken(box) == b"a1 longer a2 c2 "


def test_a_later_frame_does_not_grow_the_queue_beyond_its_bound() -> None:
    """It takes an older one's place only if it fits there; alone in the queue any frame does (G10)."""
    box, frames = outbox(1000)
    box.push(Frame(bytes(100)))
    box.push(bytes(500))
    assert not frames.replace_latest(Frame(bytes(1000 - 500 - 2 * CHUNK_OVERHEAD + 1)))
    assert frames.replace_latest(Frame(bytes(1000 - 500 - 2 * CHUNK_OVERHEAD)))
    assert box.queued_cost() == 1000
    alone, alone_frames = outbox(1000)
    alone.push(Frame(bytes(100)))
    assert alone_frames.replace_latest(Frame(bytes(2000)))


def test_what_was_dropped_leaves_nothing_behind() -> None:
    """However many frames give way to newer ones while a peer reads nothing (G10)."""
    box, frames = outbox(1000)
    frame = Frame(bytes(100))
    box.push(b"begun")
    write(box, 1)
    tracemalloc.start()
    for _ in range(50_000):
        frames.drop_oldest(100)
        box.push(frame)
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert grown < 50_000
    write(box, 1 << 20)
    assert taken(box) == b"begun" + 5 * frame
    assert box.is_empty()


def test_the_last_of_several_frames_with_one_key_is_replaced() -> None:
    """So that a peer ends with the newest value, also if the policy had not been asked for the first."""
    box, frames = outbox()
    box.push(keyed("a", b"a1 "))
    box.push(keyed("a", b"a2 "))
    assert frames.replace_latest(keyed("a", b"a3 "))
    write(box, 100)
    assert taken(box) == b"a1 a3 "


def test_a_place_that_holds_another_chunk_now_is_no_longer_known() -> None:
    """Neither after the queue was written, nor behind an urgent frame or one that was dropped."""
    box, frames = outbox()
    box.push(keyed("a", b"a1 "))
    box.push(keyed("b", b"b1 "))
    assert frames.replace_latest(keyed("b", b"b2 "))
    box.push_urgent(Urgent(b"ping "))
    assert frames.replace_latest(keyed("b", b"b3 "))
    assert frames.drop_oldest(LIMIT) == 2
    box.push(keyed("c", b"c1 "))
    assert not frames.replace_latest(keyed("a", b"a2 "))
    assert not frames.replace_latest(keyed("b", b"b4 "))
    assert frames.replace_latest(keyed("c", b"c2 "))
    write(box, 100)
    assert not frames.replace_latest(keyed("c", b"c3 "))
    assert taken(box) == b"ping c2 "


def test_one_stalled_peer_with_many_keys_does_not_cost_the_loop() -> None:
    """Each of thousands of replacements finds its place at once (G10)."""
    box, frames = outbox(1 << 30)
    for key in range(20_000):
        box.push(keyed(key, b"frame"))
    began = time.process_time()
    for key in range(20_000):
        assert frames.replace_latest(keyed(key, b"other"))
    assert time.process_time() - began < 1
