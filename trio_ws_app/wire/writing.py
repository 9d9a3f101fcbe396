"""What waits for the peer, and its way into the transport.

Plain Python that Cython also compiles: the C types are in ``writing.pxd``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cython
from trio.lowlevel import Task, reschedule

from ..protocol.closing import State
from .transport import BLOCKED, LOST

if TYPE_CHECKING:
    from ..settings import Settings
    from .engine import Engine
    from .transport import Transport

# A send waits while this much is queued: enough to keep a fast peer busy, little enough to stay fresh.
WRITE_LIMIT = 64 * 1024
_WRITE_LIMIT = WRITE_LIMIT
# Small chunks are joined up to this size, so that one write carries them.
_JOIN_LIMIT = 64 * 1024
# What TLS encrypts at once at most, and so keeps of a write that the socket refused.
_TLS_RECORD = 16 * 1024
# How many chunks one gathering write takes, well below the system's limit.
_GATHERED = 256

_BLOCKED = BLOCKED
_LOST = LOST
_OPEN = int(State.OPEN)
_GONE = int(State.GONE)


class Header(bytes):
    """A frame's header whose payload is the next chunk of the queue: nothing may come between."""


class Unwritten:
    """The links that have something to write, in the order in which that came up.

    Each holds the next, so a broadcast to many needs no memory for a list of them, which after a while of
    sleep would have to be fetched.
    """

    def __init__(self) -> None:
        self.first: Writing | None = None
        self._last: Writing | None = None

    def add(self, link: Writing) -> object:
        """Put ``link`` at the end; it must not be there yet."""
        if self.first is None:
            self.first = link
        else:
            self._last._next_dirty = link  # type: ignore[union-attr]  # there is a last one
        self._last = link
        return None

    def take(self) -> Writing:
        """Take the first; there must be one."""
        link: Writing = self.first  # type: ignore[assignment]
        self.first = link._next_dirty
        link._next_dirty = None
        if self.first is None:
            self._last = None
        return link


class Writing:
    """The queue of a link, and the state that all its halves look at."""

    def __init__(self, engine: Engine, transport: Transport, settings: Settings) -> None:
        self.engine = engine
        self.transport = transport
        self.settings = settings
        self.state = _OPEN
        self.ended = False  # nothing more will be written
        self.queued = 0  # bytes that wait for the peer
        self.blocked = False  # the transport takes no more for now
        self.bytes_out = 0
        self._chunks: list[Any] = []
        self._head_sent = 0  # how much of the first chunk the transport has taken
        self._in_frame = False  # the first chunk is the payload of a header that has been sent
        self._committed = 0  # bytes after ``_head_sent`` that the next write has to begin with
        self._room: list[Task] | None = None  # tasks that wait for room in the queue
        self._dirty = False  # to be flushed at the end of the turn
        self._next_dirty: Writing | None = None
        self._all_dirty: Unwritten = engine.dirty
        self._paused = False  # nothing is read from the peer
        self._broken = False  # nothing can be written any more
        self._blocked_since = -1.0

    # -- what the other halves of a link do --------------------------------------------------

    def _end(self) -> object:
        """The last byte is written."""

    def failed(self) -> None:
        """Something of ours went wrong."""

    def _lose_writing(self) -> object:
        """The transport takes nothing any more."""

    def _drained(self) -> object:
        """The transport takes bytes again, and the queue has room."""

    def _check_at(self, when: cython.double) -> object:
        """A deadline has been set."""

    # -- writing -----------------------------------------------------------------------------

    def write_raw(self, data: bytes) -> None:
        """Write bytes that are no message: the answer to the opening handshake."""
        self._chunks.append(data)
        self.queued += len(data)
        self._write()

    def _mark_dirty(self) -> object:
        if not self._dirty:
            self._dirty = True
            if self._all_dirty.first is None and not self.engine.in_turn:
                self.engine.look_again()
            self._all_dirty.add(self)
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
            elif self.transport.commits:
                self._committed = min(size, _TLS_RECORD)
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
        self._committed = 0
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
        self._committed = 0
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

    def _first_free(self) -> int:
        """The first place in the queue where a frame may be put: behind what is half sent or committed."""
        index: cython.Py_ssize_t = 1 if self._in_frame else 0
        reach: cython.Py_ssize_t = self._head_sent + self._committed
        if reach:
            index = 0
            while reach > 0 and index < len(self._chunks):
                reach -= len(self._chunks[index])
                index += 1
            if isinstance(self._chunks[index - 1], Header):
                index += 1
        return int(index)

    # -- room for senders that wait ----------------------------------------------------------

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
