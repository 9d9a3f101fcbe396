"""What waits for the peer: whole frames, bounded in bytes, written as far as the transport takes them.

Plain Python that Cython also compiles: the C types are in ``outgoing.pxd``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import cython
import trio
from trio.lowlevel import Task, reschedule

from ..errors import CloseCode, CloseReason, ConnectionClosed, not_a_message
from ..protocol.closing import State
from ..protocol.frames import Frame, encode_frame, encode_header
from .transport import BLOCKED, LOST

if TYPE_CHECKING:
    from ..protocol.deflate import PerMessageDeflate
    from ..settings import Settings
    from .engine import Engine
    from .transport import Transport

logger = logging.getLogger("trio_ws_app.reactor")

# A send waits while this much is queued: enough to keep a fast peer busy, little enough to stay fresh.
WRITE_LIMIT = 64 * 1024
_WRITE_LIMIT = WRITE_LIMIT
# Small chunks are joined up to this size, so that one write carries them.
_JOIN_LIMIT = 64 * 1024
# A payload from this size on is queued as it is, behind its header, rather than copied into a frame.
_LARGE = 16 * 1024
# How many chunks one gathering write takes, well below the system's limit.
_GATHERED = 256
# How a chunk begins that no control frame may overtake: a ping, a pong, the answer to the handshake.
_GOES_FIRST = (0x89, 0x8A, ord("H"))

_BLOCKED = BLOCKED
_LOST = LOST
_OPEN = int(State.OPEN)
_GONE = int(State.GONE)


class Header(bytes):
    """A frame's header whose payload is the next chunk of the queue: nothing may come between."""


class Outgoing:
    """The sending half of a link, and the state that both halves look at."""

    def __init__(
        self,
        engine: Engine,
        transport: Transport,
        settings: Settings,
        deflate: PerMessageDeflate | None,
    ) -> None:
        self.engine = engine
        self.transport = transport
        self.settings = settings
        self.deflate = deflate
        self.state = _OPEN
        self._close_reason: CloseReason | None = None
        self.closed_here = False  # by our own aclose()
        self.ended = False  # nothing more will be written
        self.queued = 0  # bytes that wait for the peer
        self.blocked = False  # the transport takes no more for now
        self.messages_out = self.bytes_out = 0
        self.dropped = 0  # messages, by an overflow policy
        # Messages that came in; those before ``_taken`` are received. While there are more, answers to
        # them will follow. A deque would be 600 bytes for every idle link.
        self.inbox: list[Any] = []
        self._in_sink = False  # a synchronous consumer runs, and what it sends is written after it
        self._queue_limit = settings.max_queue_bytes
        self._chunks: list[Any] = []
        self._head_sent = 0  # how much of the first chunk the transport has taken
        self._in_frame = False  # the first chunk is the payload of a header that has been sent
        self._payload: Any = None  # of the large message whose header was just encoded
        self._held: list[Any] | None = None  # what waits for the end of a streamed message
        self._room: list[Task] | None = None  # tasks that wait for room in the queue
        self._dirty = False  # to be flushed at the end of the turn
        self._all_dirty: list[Outgoing] = engine.dirty
        self._paused = False  # nothing is read from the peer
        self._broken = False  # nothing can be written any more
        self._blocked_since = -1.0

    # -- what the other halves of a link do --------------------------------------------------

    def _end(self) -> object:
        """The last byte is written."""

    def abort(self, why: str) -> None:
        """End at once: no goodbye, and nothing that is queued."""

    def _lose_writing(self) -> object:
        """The transport takes nothing any more."""

    def _drained(self) -> object:
        """The transport takes bytes again, and the queue has room."""

    def _check_at(self, when: cython.double) -> object:
        """A deadline has been set."""

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
            opcode = 0x81
        elif type(message) is bytes:
            payload = message
            opcode = 0x82
        elif isinstance(message, (bytes, bytearray, memoryview)):
            payload = bytes(message)
            opcode = 0x82
        else:
            raise not_a_message(message)
        if self.deflate is not None and len(payload) >= self.settings.compression_threshold:
            return encode_frame(opcode & 0x0F, self.deflate.deflate(payload), True, True)
        if len(payload) >= _LARGE and self.transport.gathers:
            self._payload = payload
            return Header(encode_header(opcode & 0x0F, len(payload)))
        frame: bytes = _frame(opcode, payload)
        return frame

    def _check_sendable(self) -> object:
        if self.closed_here:
            raise trio.ClosedResourceError("this side has closed the connection")
        if self.state != _OPEN:
            raise ConnectionClosed(self._close_reason or self._closing_reason())
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

    def write_raw(self, data: bytes) -> None:
        """Write bytes that are no message: the answer to the opening handshake."""
        self._chunks.append(data)
        self.queued += len(data)
        self._write()

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

    def _first_free(self) -> int:
        """The first place in the queue where a frame may be put: not inside the one that is half sent."""
        if not self._head_sent:
            return 1 if self._in_frame else 0
        return 2 if isinstance(self._chunks[0], Header) else 1

    # -- writing -----------------------------------------------------------------------------

    def _mark_dirty(self) -> object:
        if not self._dirty:
            self._dirty = True
            self._all_dirty.append(self)
        return None

    def flush(self) -> None:
        """Write what is queued, as far as the transport takes it."""
        self._flush()

    def _flush(self) -> bool:
        """As ``_write``."""
        self._dirty = False
        stirred: cython.bint = False
        if self._chunks and not self.blocked:
            stirred = self._write()
        return bool(stirred)

    def writable(self) -> None:
        """The transport takes bytes again."""
        self.blocked = False
        self._blocked_since = -1.0
        self._write()
        if not self.blocked:
            self._watch()
            self._drained()

    def _write(self) -> bool:
        """Write until the queue is empty or the transport has enough.

        Frames leave the queue only when the transport has taken them whole, so whatever happens the
        peer sees a prefix of well-formed frames (G2). Returns whether a task may have been woken by it or
        a deadline set.
        """
        stirred: cython.bint = self.transport.stirs
        size: cython.Py_ssize_t
        sent: cython.Py_ssize_t
        if self._broken:
            self._discard_queue()
            return True
        while self._chunks:
            if len(self._chunks) == 1:
                data = self._chunks[0]
                if self._head_sent:
                    data = memoryview(data)[self._head_sent :]
                size = len(data)
                sent = self.transport.send(data)
            elif self.queued > _JOIN_LIMIT and self.transport.gathers:
                parts = self._chunks[:_GATHERED]
                if self._head_sent:
                    parts[0] = memoryview(parts[0])[self._head_sent :]
                size = sum(map(len, parts))
                sent = self.transport.send_gathered(parts)
            else:
                data = self._joined()
                size = len(data)
                sent = self.transport.send(data)
            if sent == _LOST:
                self._lose_writing()
                return True
            if sent != _BLOCKED:
                self._written(sent)
            if sent < size:
                stirred = True
                self._block()
                break
        if self._room is not None and self.queued < _WRITE_LIMIT:
            stirred = True
            self._wake_room()
        if self.state == _GONE and not self._chunks:
            stirred = True
            self._end()
        return bool(stirred)

    def _joined(self) -> Any:
        """As many of the first chunks as fit into one write."""
        chunks: list[Any] = self._chunks
        total: cython.Py_ssize_t = 0
        count: cython.Py_ssize_t = 0
        for chunk in chunks:
            total += len(chunk)
            if count and total > _JOIN_LIMIT:
                break
            count += 1
        data = b"".join(chunks if count == len(chunks) else chunks[:count])
        return memoryview(data)[self._head_sent :] if self._head_sent else data

    def _written(self, count: cython.Py_ssize_t) -> object:
        self.bytes_out += count
        self.queued -= count
        if self.queued == 0:
            self._chunks.clear()
            self._head_sent = 0
            self._in_frame = False
            return None
        count += self._head_sent
        whole: cython.Py_ssize_t = 0
        size: cython.Py_ssize_t
        for chunk in self._chunks:
            size = len(chunk)
            if count < size:
                break
            count -= size
            whole += 1
        if whole:
            self._in_frame = isinstance(self._chunks[whole - 1], Header)
            del self._chunks[:whole]
        self._head_sent = count
        return None

    def _discard_queue(self) -> object:
        self._chunks.clear()
        self.queued = 0
        self._head_sent = 0
        self._in_frame = False
        return None

    def _block(self) -> object:
        now: cython.double = self.engine.now()
        if not self.blocked:
            self.blocked = True
            self._watch()
        self._blocked_since = now
        if self.settings.send_timeout is not None:
            self._check_at(now + self.settings.send_timeout)
        return None

    def _watch(self) -> object:
        if not self.ended:
            self.transport.watch(not self._paused, self.blocked)
        return None

    # -- room for senders that wait ----------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether a send need not wait."""
        return self.queued < _WRITE_LIMIT and self._held is None

    def wait_room(self, task: Task) -> None:
        """``task`` is rescheduled when the queue has room, or at the end."""
        if self._room is None:
            self._room = []
        self._room.append(task)

    def leave_room(self, task: Task) -> None:
        """``task`` no longer waits."""
        if self._room is not None and task in self._room:
            self._room.remove(task)

    def _wake_room(self) -> object:
        tasks = self._room
        self._room = None
        if tasks is not None:
            for task in tasks:
                reschedule(task)
        return None

    # -- a streamed message ------------------------------------------------------------------

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


def offer_to_all(connections: list[Any], frame: Frame) -> list[Any]:
    """Queue a shared frame on every connection that simply takes it: the inner loop of a broadcast.

    Returns the others, which want a closer look: not a link of ours, not open, compressed, or full.
    """
    rest: list[Any] = []
    for connection in connections:
        if not _takes_simply(connection, frame, False):
            rest.append(connection)
    return rest


def offer_to_members(members: Sequence[Any], frame: Frame, latest: object) -> list[Any]:
    """As ``offer_to_all``, for whatever has a ``connection`` and an ``overflow``.

    Returns also those whose policy is ``latest`` and whose connection has something queued.
    """
    rest: list[Any] = []
    for member in members:
        if not _takes_simply(member.connection, frame, member.overflow is latest):
            rest.append(member)
    return rest


@cython.cfunc
def _takes_simply(connection: Any, frame: Any, first_only: cython.bint) -> cython.bint:
    if not isinstance(connection, Outgoing):
        return False
    link: Outgoing = connection
    if link.state != _OPEN or link.deflate is not None or (first_only and link.queued):
        return False
    taken: cython.bint = link._offer(frame)
    return bool(taken)


def flush_all(links: list[Any]) -> bool:
    """Flush every link; whether a task may have been woken by it or a deadline set."""
    link: Outgoing
    stirred: cython.bint = False
    for link in links:
        try:
            if link._flush():
                stirred = True
        except Exception:
            # One connection's bug is one connection's bug (G5), also when it is ours.
            logger.exception("a connection failed in its flush and is aborted")
            link.abort("its flush failed")
            stirred = True
    return bool(stirred)


@cython.cfunc
def _frame(first: cython.int, payload: bytes) -> bytes:
    size: cython.Py_ssize_t = len(payload)
    if cython.compiled:
        head: cython.Py_ssize_t = 2 if size < 126 else 4 if size < 0x10000 else 10
        out: bytes = PyBytes_FromStringAndSize(cython.NULL, head + size)
        target: cython.p_uchar = cython.cast(cython.p_uchar, PyBytes_AS_STRING(out))
        target[0] = first
        if head == 2:
            target[1] = size
        elif head == 4:
            target[1] = 126
            target[2] = size >> 8
            target[3] = size & 0xFF
        else:
            target[1] = 127
            i: cython.int
            for i in range(8):
                target[2 + i] = (size >> (56 - 8 * i)) & 0xFF
        memcpy(target + head, PyBytes_AS_STRING(payload), size)
        return out
    if size < 126:
        return bytes((first, size)) + payload
    return encode_frame(first & 0x0F, payload)


if cython.compiled:
    from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
    from cython.cimports.libc.string import memcpy
