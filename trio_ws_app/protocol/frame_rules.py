# cython: annotation_typing=False, boundscheck=False, wraparound=False
"""Which frame may follow which: the rules for headers (RFC 6455, sections 5.2 to 5.5; RFC 7692, section 6).

Cython compiles this module with the types in ``frame_rules.pxd``.
"""

from __future__ import annotations

from sys import maxsize

from ..errors import CloseCode
from .closing import ProtocolError

# The longest payload that, with its header, a machine word can count. No limit means this one.
_LONGEST = maxsize - 16


class FrameRules:
    """What the next header may say, given the frames before it.

    ``opcode`` is that of the fragmented message in progress, 0 without one.
    """

    def __init__(self, max_message_size: int | None, max_fragments: int, compression: bool) -> None:
        limit = _LONGEST if max_message_size is None else min(max_message_size, _LONGEST)
        self.max_message_size = limit
        # Deflate makes incompressible data longer: its codes have up to 9 bits for a byte (RFC 1951, 3.2.6).
        self.max_payload_size = min(limit + limit // 8 + 1024, _LONGEST) if compression else limit
        self.max_fragments = max_fragments
        self.compression = compression
        self.reset()

    def reset(self) -> None:
        """Expect a new message."""
        self.opcode = 0
        self.compressed = False
        self.size = 0  # payload bytes of the message in progress
        self.fragments = 0

    def copy(self) -> FrameRules:
        """The same rules at the same place of the stream."""
        copied = FrameRules(self.max_message_size, self.max_fragments, self.compression)
        copied.opcode = self.opcode
        copied.compressed = self.compressed
        copied.size = self.size
        copied.fragments = self.fragments
        return copied

    def length(self, data: bytearray, at: int) -> int:
        """The payload's length, from the header that begins at ``at`` and is there up to its mask.

        Raises ProtocolError if it is not in its shortest form, or larger than any frame may be.
        """
        length = data[at + 1] & 0x7F
        if length < 126:
            return length
        if length == 126:
            length = data[at + 2] << 8 | data[at + 3]
            if length >= 126:
                return length
        else:
            long_length = int.from_bytes(data[at + 2 : at + 10], "big")
            if 0x10000 <= long_length <= self.max_payload_size:
                return long_length
            # Two bytes are enough to refuse a header: its length does not decide what is reported.
            self.check(data[at], data[at + 1], 0)
            if long_length >= 1 << 63:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "length with the highest bit set")
            if long_length >= 0x10000:
                raise self.too_big()
        self.check(data[at], data[at + 1], 0)
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "length not in its shortest form")

    def check(self, first: int, second: int, length: int) -> None:
        """Raise ProtocolError unless a header may have these two bytes, and its payload this ``length``."""
        opcode = first & 0x0F
        if first & 0x30 or (first & 0x40 and (not self.compression or not 1 <= opcode <= 2)):
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "reserved bits set")
        if second < 0x80:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "frame from the client is not masked")
        if opcode >= 8:
            self._check_control(first, second)
            return
        if opcode > 2:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, f"reserved opcode {opcode}")
        if opcode == 0 and self.opcode == 0:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "continuation of no message")
        if opcode != 0 and self.opcode != 0:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "new message inside a fragmented one")
        if self.fragments >= self.max_fragments:
            raise ProtocolError(CloseCode.POLICY_VIOLATION, "too many fragments")
        compressed = self.compressed or first & 0x40 != 0
        limit = self.max_payload_size if compressed else self.max_message_size
        if length > limit - self.size:
            raise self.too_big()

    def _check_control(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if opcode > 10:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, f"reserved opcode {opcode}")
        if not first & 0x80:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "fragmented control frame")
        if second & 0x7F > 125:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "control frame over 125 bytes")

    def advance(self, first: int, length: int) -> None:
        """Go past a data frame with this first byte and length, which ``check`` has found to be right."""
        if first & 0x80:
            self.reset()
            return
        if self.opcode == 0:
            self.opcode = first & 0x0F
            self.compressed = first & 0x40 != 0
        self.size += length
        self.fragments += 1

    def too_big(self) -> ProtocolError:
        """The error that says that a message is over the limit."""
        return ProtocolError(CloseCode.MESSAGE_TOO_BIG, f"message over {self.max_message_size} bytes")
