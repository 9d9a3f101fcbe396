# cython: annotation_typing=False, boundscheck=False, wraparound=False
"""Reading ahead: what is kept of a stream while nothing of it may be decoded, and the control frames in it.

Cython compiles this module with the types in ``read_ahead.pxd``.
"""

from __future__ import annotations

from ..primitives import unmask
from .closing import ProtocolError
from .frame_rules import FrameRules
from .frames import Control, read_control

_CLOSE = 0x88  # the first byte of a Close


class ReadAhead:
    """Walks the frames' headers, takes the control frames out and keeps the data frames as they came.

    ``kept`` are whole or begun data frames, in order. An error among the headers ends the walk: from that
    frame on everything is kept as it is, and the decoder finds the error when it gets there. Behind a Close
    everything is dropped.
    """

    def __init__(self, rules: FrameRules, to_skip: int, begun: bytearray) -> None:
        """Begin at the place of ``rules``.

        First come ``to_skip`` payload bytes of a data frame, or what goes on with the frame in ``begun``.
        """
        self.kept = bytearray()
        self.closed = False
        self._rules = rules
        self._to_skip = to_skip  # payload bytes of a data frame that have yet to come
        self.begun = begun  # behind it: the beginning of a header or of a control frame
        self._broken = False  # an error was found

    @property
    def unfinished(self) -> bool:
        """Whether the stream ends within a frame or a fragmented message, as far as it is known."""
        return not self.closed and (self._to_skip > 0 or len(self.begun) > 0 or self._rules.opcode != 0)

    def feed(self, data: bytearray, at: int, size: int, controls: list[Control]) -> None:
        """Keep ``data[at:size]``; append the control frames in it to ``controls``."""
        if self._broken:
            self.kept += data[at:size]
            return
        if self.begun:
            self.begun += data[at:size]
            data = self.begun
            at = 0
            size = len(data)
        at = self._walk(data, at, size, controls)
        self.begun = bytearray() if self.closed else data[at:size]

    def _walk(self, data: bytearray, at: int, size: int, controls: list[Control]) -> int:
        """Go from header to header; return how far everything is kept or taken out."""
        run = at  # the beginning of data frames that are not kept yet
        skipped = min(self._to_skip, size - at)
        self._to_skip -= skipped
        at += skipped
        try:
            while size - at >= 2:
                first = data[at]
                second = data[at + 1]
                start = at + (6 if second & 0x7F < 126 else 8 if second & 0x7F == 126 else 14)
                if size < start - 4:
                    self._rules.check(first, second, 0)
                    break
                length = self._rules.length(data, at)
                self._rules.check(first, second, length)
                if size < start:
                    break
                if not first & 0x08:
                    self._rules.advance(first, length)
                    skipped = min(length, size - start)
                    self._to_skip = length - skipped
                    at = start + skipped
                    continue
                if size - start < length:
                    break
                if run < at:
                    self.kept += data[run:at]
                run = at
                controls.append(read_control(first & 0x0F, unmask(data, start, length)))
                at = run = start + length
                if first == _CLOSE:
                    self.closed = True
                    return at
        except ProtocolError:
            self._broken = True
            at = size
        self.kept += data[run:at]
        return at
