"""What is kept of a stream, and the control frames that are found in it."""

from __future__ import annotations

from types import ModuleType

import attrs
from client_frames import encode_masked
from hypothesis import given
from hypothesis import strategies as st
from reading import cut

from trio_ws_app.protocol.frames import Opcode

Build = dict[str, ModuleType]
MASK = b"\x12\x34\x56\x78"
PING = encode_masked(Opcode.PING, b"p", MASK)
CLOSE = encode_masked(Opcode.CLOSE, b"\x03\xe8bye", MASK)
TEXT = encode_masked(Opcode.TEXT, b"text", MASK)

data_frames = st.builds(
    lambda size: encode_masked(Opcode.BINARY, bytes(size), MASK),
    st.sampled_from([0, 1, 125, 126, 500, 65_535, 65_536]),
)
controls = st.binary(max_size=125).map(lambda payload: encode_masked(Opcode.PING, payload, MASK))
places = st.lists(st.integers(0, 1 << 18), max_size=20)


class Walk:
    """A stream that is read ahead from the beginning of a frame, and what was found."""

    def __init__(self, build: Build, to_skip: int = 0) -> None:
        rules = build["protocol.frame_rules"].FrameRules(1 << 20, 100, False)
        self.ahead = build["protocol.read_ahead"].ReadAhead(rules, to_skip, bytearray())
        self._controls: list[object] = []

    def feed(self, *pieces: bytes) -> Walk:
        for piece in pieces:
            self.ahead.feed(bytearray(b"--" + piece + b"--"), 2, 2 + len(piece), self._controls)
        return self

    @property
    def found(self) -> list[tuple[object, ...]]:
        return [(type(control).__name__, *attrs.astuple(control)) for control in self._controls]


@given(st.lists(st.one_of(data_frames, controls), max_size=8), places)
def test_data_is_kept_and_controls_are_taken_out(
    build: Build, frames: list[bytes], places: list[int]
) -> None:
    """However the stream is cut, data frames stay as they were and in order, without the control frames."""
    walk = Walk(build).feed(*cut(b"".join(frames), places))
    data = [frame for frame in frames if frame[0] == 0x82]
    assert walk.ahead.kept == b"".join(data)
    assert len(walk.found) == len(frames) - len(data)
    assert not walk.ahead.begun
    assert not walk.ahead.unfinished


def test_reading_ahead_may_begin_within_a_payload(build: Build) -> None:
    """The rest of a frame's payload is skipped, whatever it looks like."""
    walk = Walk(build, to_skip=len(CLOSE)).feed(CLOSE[:3], CLOSE[3:] + PING)
    assert walk.ahead.kept == CLOSE
    assert walk.found == [("Ping", b"p")]


def test_behind_a_close_everything_is_dropped(build: Build) -> None:
    """Also what comes with it."""
    walk = Walk(build).feed(TEXT + CLOSE + TEXT)
    assert walk.found == [("CloseReason", 1000, "bye")]
    assert walk.ahead.closed
    assert (bytes(walk.ahead.kept), bytes(walk.ahead.begun)) == (TEXT, b"")


def test_from_a_mistake_on_everything_is_kept(build: Build) -> None:
    """The frame with the mistake, a control frame too, stays for the decoder to find."""
    for mistake in (b"\x81\x00", b"\x89\xff", encode_masked(Opcode.CLOSE, b"x", MASK)):
        walk = Walk(build).feed(PING + TEXT, mistake[:1], mistake[1:] + PING, PING)
        assert walk.found == [("Ping", b"p")]
        assert walk.ahead.kept == TEXT + mistake + PING + PING


def test_a_header_that_has_not_arrived_counts(build: Build) -> None:
    """The beginning of a header or of a control frame is held."""
    walk = Walk(build).feed(TEXT + PING[:4])
    assert walk.ahead.kept == TEXT
    assert walk.ahead.begun == PING[:4]
    assert walk.ahead.unfinished
