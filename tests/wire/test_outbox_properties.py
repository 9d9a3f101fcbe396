"""Whatever is queued, dropped, replaced and partly written: the peer sees a prefix of whole frames (G2)."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_client import ServerFrames
from wire_ends import ScriptedTransport

from trio_ws_app.primitives import BLOCKED
from trio_ws_app.protocol.frames import Frame, Opcode, encode_frame, encode_header
from trio_ws_app.wire.chunks import Header, Urgent
from trio_ws_app.wire.outbox import CHUNK_OVERHEAD, Outbox
from trio_ws_app.wire.overflow import SharedFrames

LIMIT = 3000
RECORD = 16 * 1024
PATTERN = bytes(range(251)) * 300
sizes = st.one_of(st.integers(0, 300), st.sampled_from([1000, 20_000, 70_000]))
steps = st.one_of(
    st.tuples(st.sampled_from(["own", "large", "shared", "urgent", "fragment", "replace"]), sizes),
    st.tuples(st.just("drop"), st.integers(0, 2 * LIMIT)),
    st.tuples(st.just("write"), st.one_of(st.integers(0, 20), st.integers(0, 100_000))),
    st.tuples(st.sampled_from(["begin", "end"]), st.just(0)),
)


@attrs.define
class Model:
    """The same, the naive way: a list of chunks, and how much of the first was sent."""

    chunks: list[bytes] = attrs.field(factory=list)
    held: list[bytes] | None = None
    sent: int = 0
    in_frame: bool = False
    taken: bytes = b""

    @property
    def cost(self) -> int:
        waiting = [*self.chunks, *(self.held or [])]
        return sum(len(chunk) + CHUNK_OVERHEAD for chunk in waiting) - self.sent

    def fits(self, size: int) -> bool:
        return self.cost == 0 or self.cost + size + CHUNK_OVERHEAD <= LIMIT

    def free(self) -> int:
        if self.sent and isinstance(self.chunks[0], Header):
            return 2
        return 1 if self.sent or self.in_frame else 0

    def push(self, chunk: bytes) -> None:
        (self.chunks if self.held is None else self.held).append(chunk)

    def push_urgent(self, chunk: bytes) -> None:
        place = self.free()
        while place < len(self.chunks) and isinstance(self.chunks[place], Urgent):
            place += 1
        self.chunks.insert(place, chunk)

    def end(self) -> None:
        self.chunks += self.held or []
        self.held = None

    def drop(self, needed: int) -> int:
        gone = 0
        for chunk in self.chunks[self.free() :]:
            if self.fits(needed):
                break
            if isinstance(chunk, Frame):
                place = next(at for at, other in enumerate(self.chunks) if other is chunk)
                del self.chunks[place]
                gone += 1
        return gone

    def replace(self, frame: Frame) -> bool:
        for chunks, start in ((self.held or [], 0), (self.chunks, self.free())):
            for place in reversed(range(start, len(chunks))):
                old = chunks[place]
                if isinstance(old, Frame) and old.key == frame.key:
                    alone = sum(map(len, self.chunks + (self.held or []))) - self.sent == len(old)
                    if len(frame) > len(old) and self.cost - len(old) + len(frame) > LIMIT and not alone:
                        return False
                    chunks[place] = frame
                    return True
        return False

    def write(self, room: int) -> None:
        while self.chunks and room:
            rest = self.chunks[0][self.sent :]
            self.taken += rest[:room]
            if room < len(rest):
                self.sent += room
                return
            room -= len(rest)
            self.in_frame = isinstance(self.chunks.pop(0), Header)
            self.sent = 0


def shared(payload: bytes) -> Frame:
    frame = Frame(encode_frame(Opcode.TEXT, payload))
    frame.key = len(payload) % 3
    return frame


def do(step: tuple[str, int], box: Outbox, frames: SharedFrames, model: Model) -> None:
    """One step, on both."""
    kind, size = step
    payload = PATTERN[:size]
    if kind == "own":
        for queue in (box, model):
            queue.push(encode_frame(Opcode.BINARY, payload))
    elif kind == "large":
        header = Header(encode_header(Opcode.BINARY, size + 1))
        for queue in (box, model):
            queue.push(header)
            queue.push(payload + b"!")
    elif kind == "shared":
        frame = shared(payload)
        for queue in (box, model):
            queue.push(frame)
    elif kind == "urgent":
        urgent = Urgent(encode_frame(Opcode.PING, payload[:125]))
        for queue in (box, model):
            queue.push_urgent(urgent)
    elif kind == "replace":
        frame = shared(payload)
        assert frames.replace_latest(frame) == model.replace(frame)
    elif kind == "drop":
        assert frames.drop_oldest(size) == model.drop(size)
    elif kind == "begin" and model.held is None:
        box.begin_stream()
        model.held = []
    elif kind == "fragment" and model.held is not None:
        frame = encode_frame(Opcode.CONTINUATION, payload, False)
        box.push_streamed(frame)
        model.chunks.append(frame)
    elif kind == "end" and model.held is not None:
        box.end_stream()
        model.end()
    elif kind == "write":
        assert isinstance(box.transport, ScriptedTransport)
        box.transport.room = size
        box.write()
        model.write(size)


@settings(deadline=None)
@given(st.lists(steps, max_size=40), st.booleans())
def test_an_outbox_writes_and_costs_what_the_model_says(
    script: list[tuple[str, int]], vectored: bool
) -> None:
    """Byte for byte, and at each step; and what was written are whole frames and the beginning of one."""
    transport = ScriptedTransport(0, vectored)
    box, model = Outbox(transport, LIMIT), Model()
    frames = SharedFrames(box)
    for step in script:
        do(step, box, frames, model)
        assert box.queued_cost() == model.cost
        assert box.is_empty() == (not model.chunks)
    for step in (("end", 0), ("write", 1 << 30)):
        do(step, box, frames, model)
    assert transport.taken == model.taken
    assert box.queued_cost() == 0
    seen = ServerFrames()
    list(seen.feed(transport.taken))
    assert seen.rest == b""


class Encrypting(ScriptedTransport):
    """Keeps a record of what it refuses, as TLS does, and fails if it is not repeated."""

    def __init__(self) -> None:
        super().__init__(0, vectored=False)
        self.repeats_writes = True
        self._record = b""

    def send(self, data: bytes | memoryview) -> int:
        record = self._record or bytes(data[:RECORD])
        assert bytes(data[: len(record)]) == record
        if self.room < len(record):
            self._record = record
            return BLOCKED
        self._record = b""
        self.room -= len(record)
        self.taken += record
        return len(record)


@settings(deadline=None)
@given(st.lists(steps, max_size=40))
def test_what_tls_has_encrypted_is_repeated(script: list[tuple[str, int]]) -> None:
    """Nothing is put into bytes that a write was refused with, dropped from them or replaced in them."""
    box = Outbox(Encrypting(), LIMIT)
    frames = SharedFrames(box)
    held: list[bytes] | None = None  # while a message is streamed
    for kind, size in script:
        if kind in ("drop", "replace"):
            _shrink(frames, kind, size)
        else:
            model = Model(held=held)
            do((kind, size), box, frames, model)
            held = model.held
    transport = box.transport
    assert isinstance(transport, Encrypting)
    box.end_stream()
    transport.room = 1 << 30
    while not box.is_empty():
        box.write()  # a record at a time
    seen = ServerFrames()
    list(seen.feed(transport.taken))
    assert seen.rest == b""
    assert box.queued_cost() == 0


def _shrink(frames: SharedFrames, kind: str, size: int) -> None:
    if kind == "drop":
        frames.drop_oldest(size)
    else:
        frames.replace_latest(shared(bytes(size)))
