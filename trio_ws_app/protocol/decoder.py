# cython: annotation_typing=False, boundscheck=False, wraparound=False
"""Bytes to messages: the receiving half of a connection (RFC 6455, sections 5 and 8).

Cython compiles this module with the types in ``decoder.pxd``.
"""

from __future__ import annotations

from codecs import utf_8_decode
from collections.abc import Callable

from ..errors import CloseCode
from ..primitives import ArrivingPayload, held_bytes, unmask, unmask_text
from .closing import ProtocolError
from .frame_rules import FrameRules
from .frames import Control, read_control
from .read_ahead import ReadAhead

Inflate = Callable[[bytes], bytes]
Messages = list[str | bytes]

_OVERHEAD = 80  # what a message that waits takes besides its contents: its object and its place
_TEXT = 1
_WHOLE_TEXT = 0x81  # the first byte of a text message in one frame
_WHOLE_BINARY = 0x82
_CLOSE = 0x88
# A payload from this size on is unmasked while it arrives, not collected first.
_LARGE = 16 * 1024
# Beyond this size a header alone does not get the payload allocated: it is collected as it comes.
_TOO_LARGE = 64 * 1024 * 1024


def message_cost(message: str | bytes) -> int:
    """What a message that waits costs, in bytes of memory."""
    return _OVERHEAD + held_bytes(message)


class Decoder:
    """Takes bytes as they arrive, in any pieces, and gives messages and control frames.

    ``inflate`` decompresses a message and turns the compression extension on. ``controls`` holds the
    control frames that came, for the caller to take and clear. ``closed`` says that nothing more is read: a
    Close is among them, or the peer has broken the protocol.

    Decoding stops as soon as the caller's ``room`` is used up, and ``resume`` goes on. What has arrived
    beyond that is kept as it is, still masked and compressed; only its control frames are taken out at once.
    ``room`` and what is returned are sums of ``message_cost``. The message that uses the room up is the last
    one, however large. How many bytes are ``kept`` is bounded by the caller, who stops feeding.
    """

    def __init__(
        self, max_message_size: int | None, max_fragments: int, inflate: Inflate | None = None
    ) -> None:
        self.controls: list[Control] = []
        self.closed = False
        self._rules = FrameRules(max_message_size, max_fragments, inflate is not None)
        self._inflate = inflate
        self._partial: bytearray | None = None  # the start of a frame whose end has not arrived
        self._needed = 0  # how many bytes of it must be there before looking again
        self._arriving: ArrivingPayload | None = None  # of a large frame whose end has not arrived
        self._arriving_first = 0  # the first byte of that frame
        self._fragments: bytearray | None = None  # the payloads of a fragmented message in progress
        self._checked = 0  # how many bytes of them are known to be UTF-8
        self._ahead: ReadAhead | None = None
        self._at = 0  # where decoding has stopped

    def is_idle(self) -> bool:
        """Whether nothing is kept, and nothing has begun whose end has not arrived."""
        if self._ahead is not None or self._partial is not None:
            return False
        return self._arriving is None and self._fragments is None

    @property
    def kept(self) -> int:
        """How many bytes are kept undecoded because there was no room for messages."""
        return 0 if self._ahead is None else len(self._ahead.kept) + len(self._ahead.begun)

    @property
    def held(self) -> int:
        """How many bytes are here: those that are kept, and of a message whose end has not arrived."""
        arriving = 0 if self._arriving is None else self._arriving.length
        return self.kept + len(self._partial or b"") + arriving + len(self._fragments or b"")

    def discard(self) -> None:
        """Forget what is held, and read nothing more."""
        self.closed = True
        self._partial = self._arriving = self._fragments = self._ahead = None

    @property
    def unfinished(self) -> bool:
        """Whether a frame or a message has begun, and its end has not arrived."""
        return self._ahead.unfinished if self._ahead is not None else not self.is_idle()

    def feed(self, data: bytearray, size: int, messages: Messages, room: int) -> int:
        """Take the first ``size`` bytes of ``data``, which may be overwritten.

        Appends whole messages to ``messages`` while there is room, and returns their cost.

        Raises ProtocolError for a mistake of the peer's; the messages before it have been appended.
        """
        if self.closed or size == 0:
            return self.resume(messages, room)
        if self._ahead is not None or room <= 0:
            self._read_ahead(data, 0, size)
            return self.resume(messages, room)
        if self._partial is not None:
            self._partial += data[:size] if size < len(data) else data
            data = self._partial
            size = len(data)
            if size < self._needed:
                return 0
            self._partial = None
        cost = self._decode(data, size, messages, room)
        if self._at < size:
            self._read_ahead(data, self._at, size)
        return cost

    def resume(self, messages: Messages, room: int) -> int:
        """Go on with what is kept. Appends, returns and raises as ``feed`` does."""
        ahead = self._ahead
        if ahead is None or room <= 0:
            return 0
        kept = ahead.kept
        cost = self._decode(kept, len(kept), messages, room)
        if self._at < len(kept):
            del kept[: self._at]
            return cost
        self._ahead = None
        if self.closed:
            self.discard()
        elif ahead.begun:
            self._partial = ahead.begun
            self._needed = 2
        return cost

    def _read_ahead(self, data: bytearray, at: int, size: int) -> None:
        """Keep ``data[at:size]``, and take the control frames out of it."""
        if self._ahead is None:
            rules, to_skip = self._rules.copy(), 0
            if self._arriving is not None:
                rules.advance(self._arriving_first, self._arriving.length)
                to_skip = self._arriving.missing
            self._ahead = ReadAhead(rules, to_skip, self._partial or bytearray())
            self._partial = None
        self._ahead.feed(data, at, size, self.controls)
        self.closed = self._ahead.closed

    def _decode(self, data: bytearray, size: int, messages: Messages, room: int) -> int:
        """Decode ``data`` while there is room, and set ``_at`` to where that ends."""
        try:
            if self._arriving is None:
                return self._decode_frames(data, 0, size, messages, room)
            self._at = self._arriving.fill(data, 0, size)
            if self._arriving.missing:
                return 0
            cost = self._take(self._arriving_first, self._arriving.take(), messages)
            self._arriving = None
            return cost + self._decode_frames(data, self._at, size, messages, room - cost)
        except ProtocolError:
            self.discard()
            raise
        except UnicodeDecodeError as error:
            self.discard()
            raise ProtocolError(CloseCode.INVALID_PAYLOAD, "text is not UTF-8") from error

    def _decode_frames(self, data: bytearray, at: int, size: int, messages: Messages, room: int) -> int:
        """The loop that every frame passes."""
        rules = self._rules
        cost = 0
        needed = 2
        while cost < room and size - at >= 2:
            first = data[at]
            second = data[at + 1]
            length = second & 0x7F
            start = at + 6
            if length >= 126:
                start += 2 if length == 126 else 8
                if size < start - 4:
                    rules.check(first, second, 0)
                    needed = start - 4 - at
                    break
                length = rules.length(data, at)
            # The common case first: an uncompressed, unfragmented message.
            plain = first in (_WHOLE_TEXT, _WHOLE_BINARY) and second >= 0x80 and rules.opcode == 0
            if not plain:
                rules.check(first, second, length)
            elif length > rules.max_message_size:
                raise rules.too_big()
            if size - start < length:
                if _LARGE <= length <= _TOO_LARGE and size >= start:
                    self._arriving = ArrivingPayload(data, start, length)
                    self._arriving.fill(data, start, size)
                    self._arriving_first = first
                    at = size
                needed = start - at + length
                break
            at = start + length
            if not plain:
                cost += self._take(first, unmask(data, start, length), messages)
                if first == _CLOSE:
                    at = size
            elif first == _WHOLE_TEXT:
                text = unmask_text(data, start, length)
                messages.append(text)
                # As many characters as bytes: they are ASCII.
                cost += _OVERHEAD + (length if len(text) == length else held_bytes(text))
            else:
                messages.append(unmask(data, start, length))
                cost += _OVERHEAD + length
        if cost < room and at < size:
            self._partial = data[at:size]
            self._needed = needed
            at = size
        self._at = at
        return cost

    def _take(self, first: int, payload: bytes, messages: Messages) -> int:
        """Take a whole frame; return the cost of the message that it completes."""
        if first & 0x08:
            self.controls.append(read_control(first & 0x0F, payload))
            if first == _CLOSE:
                self.discard()
            return 0
        rules = self._rules
        final = first & 0x80 != 0
        text = (rules.opcode or first & 0x0F) == _TEXT
        compressed = rules.compressed or first & 0x40 != 0
        if rules.opcode != 0 or not final:
            self._add_fragment(payload, text and not compressed, final)
        rules.advance(first, len(payload))
        if not final:
            return 0
        if self._fragments is not None:
            payload = bytes(self._fragments)
            self._fragments = None
        if compressed:
            assert self._inflate is not None
            payload = self._inflate(payload)
        message = payload.decode() if text else payload
        messages.append(message)
        return message_cost(message)

    def _add_fragment(self, payload: bytes, check: bool, final: bool) -> None:
        """Collect a fragment; raise UnicodeDecodeError as soon as a text can't become UTF-8 any more."""
        if self._fragments is None:
            self._fragments = bytearray()
            self._checked = 0
        self._fragments += payload
        if check:
            self._checked += utf_8_decode(self._fragments[self._checked :], "strict", final)[1]
