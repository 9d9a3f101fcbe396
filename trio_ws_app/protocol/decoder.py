"""Bytes to messages: the receiving half of the wire (RFC 6455, sections 5 and 8).

Plain Python that Cython also compiles: the annotations with ``cython`` types are what makes the
compiled loop fast, and mean nothing where it runs uncompiled.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, MutableSequence
from typing import Any

import attrs
import cython

from ..errors import CloseCode
from .closing import is_legal_close_code
from .errors import ProtocolError

COMPILED: bool = cython.compiled

_NO_LIMIT = 1 << 61  # out of reach, and sums with it stay within a machine word
_OPCODE_NAMES = {1: "text", 2: "binary"}


@attrs.frozen
class Ping:
    """A ping that wants its payload back."""

    payload: bytes


@attrs.frozen
class Pong:
    """The answer to a ping, or an unsolicited one."""

    payload: bytes


@attrs.frozen
class Close:
    """The peer's goodbye; ``code`` is 1005 where it gave none."""

    code: int
    reason: str


Control = Ping | Pong | Close
Inflate = Callable[[bytes], bytes]

_new_utf8_decoder = codecs.getincrementaldecoder("utf-8")


# A payload from this size on is unmasked while it arrives, not collected first.
_LARGE = cython.declare(cython.Py_ssize_t, 16 * 1024)
# Beyond this a header alone does not get us to allocate the payload: it is collected as it comes.
_TOO_LARGE = cython.declare(cython.Py_ssize_t, 64 * 1024 * 1024)


@cython.cfunc
@cython.boundscheck(False)
@cython.wraparound(False)
def _unmask(data: bytearray, start: cython.Py_ssize_t, size: cython.Py_ssize_t) -> bytes:
    """The ``size`` payload bytes at ``start``, unmasked with the four bytes before them."""
    if cython.compiled:
        out: bytes = PyBytes_FromStringAndSize(cython.NULL, size)
        source: cython.p_uchar = cython.cast(cython.p_uchar, PyByteArray_AS_STRING(data)) + start
        mask32: cython.uint = 0
        memcpy(cython.address(mask32), source - 4, 4)
        _xor(cython.cast(cython.p_uchar, PyBytes_AS_STRING(out)), source, size, mask32)
        return out
    mask = data[start - 4 : start]
    repeated = (mask * (size // 4 + 1))[:size]
    plain = int.from_bytes(data[start : start + size], "little") ^ int.from_bytes(repeated, "little")
    return plain.to_bytes(size, "little")


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _xor(
    target: cython.p_uchar, source: cython.p_uchar, size: cython.Py_ssize_t, mask32: cython.uint
) -> cython.void:
    """Compiled only: ``source`` unmasked into ``target``, eight bytes at a time."""
    key: cython.ulonglong = mask32
    key |= key << 32
    word: cython.ulonglong = 0
    i: cython.Py_ssize_t = 0
    while i + 8 <= size:
        memcpy(cython.address(word), source + i, 8)
        word ^= key
        memcpy(target + i, cython.address(word), 8)
        i += 8
    while i < size:
        target[i] = source[i] ^ ((mask32 >> (8 * (i & 3))) & 0xFF)
        i += 1


if cython.compiled:
    from cython.cimports.cpython.bytearray import PyByteArray_AS_STRING
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.string import memcpy


@cython.cclass
class Decoder:
    """Takes bytes as they arrive, in any pieces, and gives messages and control frames.

    ``inflate`` decompresses a message and turns the compression extension on. ``controls`` holds the
    control frames that came, for the caller to take and clear. After a Close nothing more is read.
    """

    controls = cython.declare(list, visibility="readonly")
    closed = cython.declare(cython.bint, visibility="readonly")
    _max_size: cython.Py_ssize_t
    _max_compressed_size: cython.Py_ssize_t
    _max_fragments: cython.Py_ssize_t
    _inflate: Any  # Inflate or None
    _partial: bytearray | None  # the start of a frame whose end has not arrived
    _needed: cython.Py_ssize_t  # how many bytes of it must be there before looking again
    _target: Any  # bytes: a large payload in progress, unmasked as far as it has come (compiled only)
    _filled: cython.Py_ssize_t
    _target_first: cython.int  # the first byte of its frame
    _mask: cython.uint
    _opcode: cython.int  # of the fragmented message in progress, 0 when there is none
    _compressed: cython.bint
    _pieces: Any  # None, or a list of str or bytes, as the message is decoded while it arrives
    _size: cython.Py_ssize_t
    _fragments: cython.Py_ssize_t
    _text: Any  # an incremental UTF-8 decoder or None

    def __init__(
        self, max_message_size: int | None, max_fragments: int, inflate: Inflate | None = None
    ) -> None:
        self.controls = []
        self.closed = False
        self._max_size = min(max_message_size or _NO_LIMIT, _NO_LIMIT)
        # Deflate makes incompressible data longer: its codes have up to 9 bits for a byte (RFC 1951, 3.2.6).
        self._max_compressed_size = self._max_size + (0 if inflate is None else self._max_size // 8 + 1024)
        self._max_fragments = max_fragments
        self._inflate = inflate
        self._partial = None
        self._needed = 0
        self._target = None
        self._filled = 0
        self._target_first = 0
        self._mask = 0
        self._forget_message()

    @cython.cfunc
    def _forget_message(self) -> None:
        self._opcode = 0
        self._compressed = False
        self._pieces = None
        self._size = 0
        self._fragments = 0
        self._text = None

    def feed(self, data: bytearray, size: cython.Py_ssize_t, messages: MutableSequence[str | bytes]) -> int:
        """Take the first ``size`` bytes of ``data``; append whole messages to ``messages``.

        Returns how many payload bytes were appended. Raises ProtocolError with the close code to send;
        messages before the mistake have been appended.
        """
        if self.closed or size == 0:
            return 0
        if self._target is not None:
            return int(self._fill(data, size, messages))
        if self._partial is None:
            return int(self._parse(data, 0, size, messages))
        partial: bytearray = self._partial
        partial += data[:size] if size < len(data) else data
        if len(partial) < self._needed:
            return 0
        self._partial = None
        return int(self._parse(partial, 0, len(partial), messages))

    @cython.cfunc
    def _start_large(
        self,
        first: cython.int,
        data: bytearray,
        start: cython.Py_ssize_t,
        have: cython.Py_ssize_t,
        length: cython.Py_ssize_t,
    ) -> object:
        """Unmask what is there of a large payload; the rest follows while it is still in the cache."""
        if cython.compiled:
            target: bytes = PyBytes_FromStringAndSize(cython.NULL, length)
            source: cython.p_uchar = cython.cast(cython.p_uchar, PyByteArray_AS_STRING(data)) + start
            memcpy(cython.address(self._mask), source - 4, 4)
            _xor(cython.cast(cython.p_uchar, PyBytes_AS_STRING(target)), source, have, self._mask)
            self._target = target
            self._filled = have
            self._target_first = first
        return None

    @cython.cfunc
    def _fill(
        self, data: bytearray, size: cython.Py_ssize_t, messages: MutableSequence[str | bytes]
    ) -> object:
        taken: cython.Py_ssize_t = 0
        used: cython.Py_ssize_t = 0
        if cython.compiled:
            target: Any = self._target
            used = min(size, len(target) - self._filled)
            turned: cython.uint = self._mask
            turn: cython.int = 8 * (self._filled & 3)
            if turn:
                turned = (turned >> turn) | (turned << (32 - turn))
            _xor(
                cython.cast(cython.p_uchar, PyBytes_AS_STRING(target)) + self._filled,
                cython.cast(cython.p_uchar, PyByteArray_AS_STRING(data)),
                used,
                turned,
            )
            self._filled += used
            if self._filled < len(target):
                return 0
            self._target = None
            taken = self._take_frame(self._target_first, target, messages)
            if used < size:
                taken += self._parse(data, used, size, messages)
        return taken

    @cython.cfunc
    def _take_frame(
        self, first: cython.int, payload: bytes, messages: MutableSequence[str | bytes]
    ) -> cython.Py_ssize_t:
        """One whole data frame; how many bytes of messages it completed."""
        if (first == 0x81 or first == 0x82) and self._opcode == 0:
            messages.append(_decoded(payload) if first == 0x81 else payload)
            return len(payload)
        message = self._fragment(first, payload)
        if message is None:
            return 0
        messages.append(message)
        return len(message)

    @cython.cfunc
    @cython.boundscheck(False)
    @cython.wraparound(False)
    def _parse(
        self,
        data: bytearray,
        at: cython.Py_ssize_t,
        size: cython.Py_ssize_t,
        messages: MutableSequence[str | bytes],
    ) -> object:
        """Take the frames of ``data`` from ``at`` on; how many bytes of messages they completed."""
        taken: cython.Py_ssize_t = 0
        start: cython.Py_ssize_t
        length: cython.Py_ssize_t
        needed: cython.Py_ssize_t = 2
        first: cython.int
        second: cython.int
        append = messages.append
        while size - at >= 2:
            first = data[at]
            second = data[at + 1]
            length = second & 0x7F
            start = at + 6
            if length >= 126:
                start += 2 if length == 126 else 8
                if size < start - 4:
                    self._check_header(first, second, 0)
                    needed = start - 4 - at
                    break
                length = self._long_length(data, at, start - 4)
            # The one common case first: a whole, uncompressed, unfragmented message.
            if (first == 0x81 or first == 0x82) and second >= 0x80 and self._opcode == 0:
                if length > self._max_size:
                    raise self._too_big()
                if size - start < length:
                    if cython.compiled and _LARGE <= length <= _TOO_LARGE and size >= start:
                        self._start_large(first, data, start, size - start, length)
                        return taken
                    needed = start + length - at
                    break
                payload = _unmask(data, start, length)
                append(_decoded(payload) if first == 0x81 else payload)
                taken += length
            else:
                self._check_header(first, second, length)
                if size - start < length:
                    if cython.compiled and _LARGE <= length <= _TOO_LARGE and size >= start:
                        self._start_large(first, data, start, size - start, length)
                        return taken
                    needed = start + length - at
                    break
                payload = _unmask(data, start, length)
                if first & 0x08:
                    self._control(first & 0x0F, payload)
                    if self.closed:
                        return taken
                else:
                    taken += self._take_frame(first, payload, messages)
            at = start + length
            needed = 2
        if at < size:
            self._partial = data[at:size]
            self._needed = needed
        return taken

    @cython.cfunc
    def _long_length(
        self, data: bytearray, at: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        length = int.from_bytes(data[at + 2 : end], "big")
        shortest = 126 if end - at == 4 else 0x10000
        if shortest <= length <= self._max_compressed_size:
            return length
        # Two bytes are enough to refuse a header: the length must not decide which mistake is reported.
        self._check_header(data[at], data[at + 1], 0)
        if length < shortest:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "length not in its shortest form")
        if length >= 1 << 63:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "length with the highest bit set")
        raise self._too_big()

    @cython.cfunc
    def _check_header(self, first: cython.int, second: cython.int, length: cython.Py_ssize_t) -> object:
        """What one frame's header may say, given the frames before it (section 5.2 to 5.5)."""
        opcode: cython.int = first & 0x0F
        if first & 0x30 or (first & 0x40 and (self._inflate is None or opcode not in _OPCODE_NAMES)):
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "reserved bits set")
        if second < 0x80:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "frame from the client is not masked")
        if opcode >= 8:
            if opcode > 10:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, f"reserved opcode {opcode}")
            if not first & 0x80:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "fragmented control frame")
            if second & 0x7F > 125:
                raise ProtocolError(CloseCode.PROTOCOL_ERROR, "control frame over 125 bytes")
            return None
        if opcode > 2:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, f"reserved opcode {opcode}")
        if opcode == 0 and self._opcode == 0:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "continuation of no message")
        if opcode != 0 and self._opcode != 0:
            raise ProtocolError(CloseCode.PROTOCOL_ERROR, "new message inside a fragmented one")
        compressed: cython.bint = self._compressed or first & 0x40 != 0
        if self._size + length > (self._max_compressed_size if compressed else self._max_size):
            raise self._too_big()
        return None

    @cython.cfunc
    def _fragment(self, first: cython.int, payload: bytes) -> object:
        """One frame of a message that is fragmented or compressed; the message when it is complete."""
        final: cython.bint = first & 0x80 != 0
        if self._opcode == 0:
            self._opcode = first & 0x0F
            self._compressed = first & 0x40 != 0
            if self._opcode == 1 and not self._compressed:
                self._text = _new_utf8_decoder()
        self._fragments += 1
        if self._fragments > self._max_fragments:
            raise ProtocolError(CloseCode.POLICY_VIOLATION, "too many fragments")
        self._size += len(payload)
        piece = payload if self._text is None else self._decode_piece(payload, final)
        if piece:
            if self._pieces is None:
                self._pieces = []
            self._pieces.append(piece)
        return self._finish() if final else None

    @cython.cfunc
    def _decode_piece(self, payload: bytes, final: cython.bint) -> object:
        try:
            return self._text.decode(payload, final)
        except UnicodeDecodeError as error:
            raise ProtocolError(CloseCode.INVALID_PAYLOAD, "text is not UTF-8") from error

    @cython.cfunc
    def _finish(self) -> object:
        message: Any
        if self._compressed:
            message = self._inflate(b"".join(self._pieces or ()))
            if self._opcode == 1:
                message = _decoded(message)
        elif self._text is not None:
            message = "".join(self._pieces or ())
        else:
            message = b"".join(self._pieces or ())
        self._forget_message()
        return message

    @cython.cfunc
    def _control(self, opcode: cython.int, payload: bytes) -> object:
        if opcode == 9:
            self.controls.append(Ping(payload))
        elif opcode == 10:
            self.controls.append(Pong(payload))
        else:
            self.controls.append(_parse_close(payload))
            self.closed = True
            self._partial = None
            self._forget_message()
        return None

    @cython.cfunc
    def _too_big(self) -> object:
        return ProtocolError(CloseCode.MESSAGE_TOO_BIG, f"message over {self._max_size} bytes")


def _decoded(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(CloseCode.INVALID_PAYLOAD, "text is not UTF-8") from error


def _parse_close(payload: bytes) -> Close:
    if not payload:
        return Close(CloseCode.NO_STATUS, "")
    if len(payload) == 1:
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "close frame of one byte")
    code = int.from_bytes(payload[:2], "big")
    if not is_legal_close_code(code):
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, f"illegal close code {code}")
    return Close(code, _decoded(payload[2:]))
