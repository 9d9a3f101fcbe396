"""From messages to the queue: whole frames, bounded in bytes.

Plain Python that Cython also compiles: the C types are in ``outgoing.pxd``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cython
import trio

from ..errors import CloseCode, CloseReason, ConnectionClosed, not_a_message
from ..protocol.closing import State
from ..protocol.frames import Frame, encode_header
from .writing import WRITE_LIMIT, Header, Writing

if cython.compiled:
    from cython.cimports.trio_ws_app.protocol.frames import encode_frame
else:
    from ..protocol.frames import encode_frame

if TYPE_CHECKING:
    from ..protocol.deflate import PerMessageDeflate
    from ..settings import Settings
    from .engine import Engine
    from .transport import Transport

_WRITE_LIMIT = WRITE_LIMIT
# A payload from this size on is queued as it is, behind its header, rather than copied into a frame.
_LARGE = 16 * 1024
# How a chunk begins that no control frame may overtake: a ping, a pong, the answer to the handshake.
_GOES_FIRST = (0x89, 0x8A, ord("H"))

_OPEN = int(State.OPEN)


class Outgoing(Writing):
    """Messages go out: what is sent, streamed, shared and dropped."""

    def __init__(
        self,
        engine: Engine,
        transport: Transport,
        settings: Settings,
        deflate: PerMessageDeflate | None,
    ) -> None:
        super().__init__(engine, transport, settings)
        self.deflate = deflate
        self._close_reason: CloseReason | None = None
        self.closed_here = False  # by our own aclose()
        self.messages_out = 0
        self.dropped = 0  # messages, by an overflow policy
        # Messages that came in; those before ``_taken`` are received. While there are more, answers to
        # them will follow. A deque would be 600 bytes for every idle link.
        self.inbox: list[Any] = []
        self._in_sink = False  # a synchronous consumer runs, and what it sends is written after it
        self._queue_limit = settings.max_queue_bytes
        self._payload: Any = None  # of the large message whose header was just encoded
        self._held: list[Any] | None = None  # what waits for the end of a streamed message

    @property
    def close_reason(self) -> CloseReason | None:
        """How the connection ended, or None while it is open."""
        return self._close_reason

    # -- queueing ----------------------------------------------------------------------------

    def _encode(self, message: object) -> Any:
        """One message as one frame; of a large one, only the header, and ``_payload`` is what follows it."""
        payload: bytes
        opcode: cython.int
        if isinstance(message, str):
            payload = message.encode()
            opcode = 1
        elif type(message) is bytes:
            payload = message
            opcode = 2
        elif isinstance(message, (bytes, bytearray, memoryview)):
            payload = bytes(message)
            opcode = 2
        else:
            raise not_a_message(message)
        if self.deflate is not None and len(payload) >= self.settings.compression_threshold:
            return encode_frame(opcode, self.deflate.deflate(payload), True, True)
        if len(payload) >= _LARGE and self.transport.gathers:
            self._payload = payload
            return Header(encode_header(opcode, len(payload)))
        return encode_frame(opcode, payload)

    def _check_sendable(self) -> object:
        if self.closed_here:
            raise trio.ClosedResourceError("this side has closed the connection")
        if self.state != _OPEN:
            raise ConnectionClosed(self._close_reason or self._closing_reason(), self)  # type: ignore[arg-type]
        return None

    def _closing_reason(self) -> CloseReason:
        return CloseReason(CloseCode.GOING_AWAY, "the server is saying goodbye")

    def try_send(self, message: object) -> bool:
        """Queue ``message`` whole, or not at all and return False while the peer is behind."""
        self._check_sendable()
        if self.queued >= _WRITE_LIMIT or self._held is not None:
            if not isinstance(message, (str, bytes, bytearray, memoryview)):
                self._encode(message)
            return False
        self._push(self._encode(message))
        if self.inbox:
            self._mark_dirty()  # what follows may leave in the same write
        elif not self.blocked:
            self._write()
        return True

    def send_nowait(self, message: object) -> None:
        """Queue ``message``; see ``Connection.send_nowait``."""
        self._check_sendable()
        frame = self._encode(message)
        size: cython.Py_ssize_t = len(frame) + (0 if self._payload is None else len(self._payload))
        if self.queued and self.queued + size > self._queue_limit:
            self._payload = None
            if self.deflate is not None:
                self.deflate.restart()  # what comes next must not refer to a message that is not sent
            raise trio.WouldBlock
        self._push(frame)
        if not self._in_sink:
            self._mark_dirty()
        return

    def _push(self, frame: Any) -> object:  # Cython's bytes would refuse a subclass
        chunks: list[Any] = self._chunks if self._held is None else self._held
        self.messages_out += 1
        self.queued += len(frame)
        chunks.append(frame)
        if self._payload is not None:
            self.queued += len(self._payload)
            chunks.append(self._payload)
            self._payload = None
        return None

    def offer(self, frame: Any) -> bool:
        """Queue a frame that others share; False when it would pass the bound. For open links only."""
        return self._offer(frame)

    def _offer(self, frame: Any) -> bool:
        size: cython.Py_ssize_t = len(frame)
        if self.queued and self.queued + size > self._queue_limit:
            return False
        self._push(frame)
        self._mark_dirty()
        return True

    def _push_control(self, frame: bytes, old: object = None) -> object:
        """Queue ``frame`` ahead of the messages that wait, or in the place of ``old`` if that waits too.

        Never inside a frame that is partly sent (RFC 6455, section 5.4), and behind earlier controls.
        """
        chunks: list[Any] = self._chunks
        index: cython.Py_ssize_t = self._first_free()
        while index < len(chunks) and chunks[index][0] in _GOES_FIRST:
            if self.blocked and chunks[index] is old:
                self.queued -= len(chunks[index])
                del chunks[index]
            else:
                index += 1
        chunks.insert(index, frame)
        self.queued += len(frame)
        self._mark_dirty()
        return frame

    # -- a streamed message ------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether a send need not wait."""
        return self.queued < _WRITE_LIMIT and self._held is None

    def hold(self) -> None:
        """A streamed message begins: other messages wait until ``release``."""
        self._held = []

    @property
    def streaming(self) -> bool:
        return self._held is not None

    def push_fragment(self, opcode: int, payload: bytes, final: bool) -> None:
        """Queue one fragment of the streamed message."""
        self._check_sendable()
        frame = encode_frame(opcode, payload, final)
        self.queued += len(frame)
        self._chunks.append(frame)
        if not self.blocked:
            self._write()

    def release(self) -> None:
        """The streamed message is over: what waited follows it."""
        held = self._held
        self._held = None
        if held and not self.ended:
            self._chunks.extend(held)
            self._mark_dirty()
        self.messages_out += 1
        self._wake_room()
        self._drained()

    # -- overflow ----------------------------------------------------------------------------

    def drop_oldest(self, needed: int) -> int:
        """Drop queued shared frames, the oldest first, until ``needed`` bytes fit; how many went."""
        index = self._first_free()
        gone = 0
        while index < len(self._chunks) and self.queued + needed > self._queue_limit:
            if isinstance(self._chunks[index], Frame):
                self.queued -= len(self._chunks[index])
                del self._chunks[index]
                gone += 1
            else:
                index += 1
        return gone

    def replace_latest(self, frame: Frame) -> bool:
        """Put ``frame`` in the place of a queued one with the same key, if there is one."""
        for chunks, start in ((self._chunks, self._first_free()), (self._held or [], 0)):
            for index in range(start, len(chunks)):
                old = chunks[index]
                if isinstance(old, Frame) and old.key == frame.key:
                    self.queued += len(frame) - len(old)
                    chunks[index] = frame
                    return True
        return False
