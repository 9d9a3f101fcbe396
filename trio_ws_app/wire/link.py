"""The synchronous half of a connection: from bytes to the inbox, from the queue to bytes.

Nothing here waits. Plain Python that Cython also compiles, because every message passes here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cython
import trio
from trio.lowlevel import Task, reschedule

from ..errors import CloseCode, CloseReason, ConnectionClosed, already_receiving, not_a_message
from ..protocol.closing import TRANSITIONS, State, Turn, close_payload
from ..protocol.decoder import Close, Decoder, Ping, Pong
from ..protocol.errors import ProtocolError
from ..protocol.frames import Frame, Opcode, encode_frame, encode_header
from .transport import WOULD_BLOCK

if TYPE_CHECKING:
    from ..protocol.deflate import PerMessageDeflate
    from ..settings import Settings
    from .engine import Engine
    from .transport import Transport

COMPILED: bool = cython.compiled

# A send waits while this much is queued: enough to keep a fast peer busy, little enough to stay fresh.
WRITE_LIMIT = 64 * 1024
_WRITE_LIMIT = cython.declare(cython.Py_ssize_t, WRITE_LIMIT)
# Small chunks are joined up to this size, so that one write carries them.
_JOIN_LIMIT = cython.declare(cython.Py_ssize_t, 64 * 1024)
# A payload from this size on is queued as it is, behind its header, rather than copied into a frame.
_LARGE = cython.declare(cython.Py_ssize_t, 16 * 1024)
# How many chunks one gathering write takes, well below the system's limit.
_GATHERED = 256

# How a chunk begins that no control frame may overtake: a ping, a pong, the answer to the handshake.
_GOES_FIRST = (0x89, 0x8A, ord("H"))

_OPEN = cython.declare(cython.int, int(State.OPEN))
_GONE = cython.declare(cython.int, int(State.GONE))


class Header(bytes):
    """A frame's header whose payload is the next chunk of the queue: nothing may come between."""


@cython.cclass
class Link:
    """Bytes in, messages out, and back; state, bounds and counters of one connection."""

    inbox = cython.declare(list, visibility="readonly")  # messages; those before ``_taken`` are received
    _taken: cython.Py_ssize_t
    state = cython.declare(cython.int, visibility="readonly")
    queued = cython.declare(cython.Py_ssize_t, visibility="readonly")  # bytes that wait for the peer
    blocked = cython.declare(cython.bint, visibility="readonly")  # the transport takes no more for now
    last_seen = cython.declare(cython.double, visibility="readonly")
    messages_in = cython.declare(cython.longlong, visibility="readonly")
    messages_out = cython.declare(cython.longlong, visibility="readonly")
    bytes_in = cython.declare(cython.longlong, visibility="readonly")
    bytes_out = cython.declare(cython.longlong, visibility="readonly")
    dropped = cython.declare(cython.longlong, visibility="public")  # by an overflow policy
    close_reason = cython.declare(object, visibility="readonly")
    closed_by = cython.declare(str, visibility="readonly")  # "peer", "us" or "network"
    closed_here = cython.declare(cython.bint, visibility="readonly")  # by our own aclose()
    ended = cython.declare(cython.bint, visibility="readonly")  # nothing more will be written
    deflate = cython.declare(object, visibility="readonly")
    latency = cython.declare(object, visibility="readonly")
    gone_at = cython.declare(cython.double, visibility="readonly")  # Trio's clock; negative until then
    transport = cython.declare(object, visibility="readonly")
    engine = cython.declare(object, visibility="readonly")
    settings = cython.declare(object, visibility="readonly")
    _decoder: Any
    _recv_into: Any
    _send: Any
    _inbox_bytes: cython.Py_ssize_t
    _inbox_limit: cython.Py_ssize_t
    _paused: cython.bint
    _chunks: list[Any]
    _head_sent: cython.Py_ssize_t  # how much of the first chunk the transport has taken
    _in_frame: cython.bint  # the first chunk is the payload of a header that has been sent
    _gathers: cython.bint  # the transport takes several chunks in one write
    _queue_limit: cython.Py_ssize_t
    _dirty: cython.bint
    _payload: Any  # of the large message whose header was just encoded, or None
    _held: Any  # frames that wait for the end of a streamed message, or None
    _pong: Any  # the last pongs, which may still be in the queue
    _receiver: Any  # the task that waits for a message
    _room: Any  # tasks that wait for room in the queue
    _sink: Any
    _sink_error: Any
    _in_sink: cython.bint
    _gone_scopes: Any
    _end_waiters: Any
    _pings: Any  # payload -> (sent at, waiting tasks or None)
    _ping_number: cython.longlong
    _keepalive_since: cython.double
    _blocked_since: cython.double
    _closing_since: cython.double
    _next_check: cython.double
    _timer: Any
    _broken: cython.bint
    _is_gone: cython.bint

    def __init__(
        self,
        engine: Engine,
        transport: Transport,
        settings: Settings,
        deflate: PerMessageDeflate | None = None,
    ) -> None:
        self.engine = engine
        self.transport = transport
        self.settings = settings
        self.deflate = deflate
        self._recv_into = transport.recv_into
        self._send = transport.send
        inflate = None if deflate is None else deflate.inflate
        self._decoder = Decoder(settings.max_message_size, settings.max_fragments, inflate)
        self.inbox = []  # a deque would be 600 bytes for every idle connection
        self._taken = 0
        self.state = _OPEN
        self.queued = 0
        self.blocked = False
        self.messages_in = self.messages_out = self.bytes_in = self.bytes_out = self.dropped = 0
        self.close_reason = None
        self.closed_by = ""
        self.closed_here = False
        self.ended = False
        self.latency = None
        self.gone_at = -1.0
        self._inbox_bytes = 0
        self._inbox_limit = settings.max_inbox_bytes
        self._paused = False
        self._chunks = []
        self._head_sent = 0
        self._in_frame = False
        self._gathers = transport.gathers
        self._queue_limit = settings.max_queue_bytes
        self._dirty = False
        self._payload = None
        self._held = None
        self._pong = None
        self._receiver = None
        self._room = None
        self._sink = None
        self._sink_error = None
        self._in_sink = False
        self._gone_scopes = None
        self._end_waiters = None
        self._pings = None
        self._ping_number = 0
        self._keepalive_since = -1.0
        self._blocked_since = -1.0
        self._closing_since = -1.0
        self._is_gone = False
        self._broken = False
        self._timer = None
        self.last_seen = trio.current_time()
        self._next_check = -1.0
        if settings.ping_interval is not None:
            self._check_at(self.last_seen + settings.ping_interval)

    # -- receiving ---------------------------------------------------------------------------

    def readable(self, buffer: bytearray, now: cython.double) -> object:
        """Take what the transport has, and act on it."""
        size: cython.Py_ssize_t
        while True:
            try:
                size = self._recv_into(buffer)
            except WOULD_BLOCK:
                return None
            except OSError:
                self._lose("the connection was reset")
                return None
            if size == 0:
                self._lose("the peer went away without a goodbye")
                return None
            self.last_seen = now
            self.feed(buffer, size)
            if self._paused or size < 16384 or self.ended or not self.transport.pending():
                return None

    @cython.ccall
    def feed(self, buffer: bytearray, size: cython.Py_ssize_t) -> object:
        """Act on received bytes; a peer that breaks the protocol is told so."""
        failure = None
        self.bytes_in += size
        if self._is_gone:
            return None  # after the goodbye nothing counts (RFC 6455, section 5.5.1)
        before: cython.Py_ssize_t = len(self.inbox)
        try:
            self._inbox_bytes += self._decoder.feed(buffer, size, self.inbox)
        except ProtocolError as error:
            failure = error
        self.messages_in += len(self.inbox) - before
        if self.inbox:
            self._deliver()
        if self._decoder.controls:
            self._act_on_controls()
        if failure is not None:
            self._fail(failure)
        return None

    @cython.cfunc
    def _deliver(self) -> object:
        if self.closed_here:
            self._clear_inbox()
        elif self._sink is not None:
            self._run_sink()
        elif self._receiver is not None:
            self._wake_receiver()
        if self._inbox_bytes > self._inbox_limit and self.inbox and not self._paused and not self._is_gone:
            self._paused = True
            self._watch()
        return None

    @cython.cfunc
    def _wake_receiver(self) -> object:
        task = self._receiver
        if task is not None:
            self._receiver = None
            reschedule(task)
        return None

    def take(self) -> str | bytes:
        """The next message of the inbox; reading goes on when the inbox is empty."""
        message: Any = self._pop()
        if not self.inbox:
            self._inbox_emptied()
        return message  # type: ignore[no-any-return]

    @cython.cfunc
    def _pop(self) -> Any:
        inbox: list[Any] = self.inbox
        message: Any = inbox[self._taken]
        self._taken += 1
        if self._taken == len(inbox):
            self._clear_inbox()
        elif self._taken >= 64 and self._taken * 2 > len(inbox):
            del inbox[: self._taken]
            self._taken = 0
        else:
            inbox[self._taken - 1] = None
        return message

    @cython.cfunc
    def _clear_inbox(self) -> object:
        self.inbox.clear()
        self._taken = 0
        self._inbox_bytes = 0
        return None

    @property
    def unreceived(self) -> int:
        """How many messages wait to be received."""
        return int(len(self.inbox) - self._taken)

    @cython.cfunc
    def _inbox_emptied(self) -> object:
        self._inbox_bytes = 0
        if self._paused:
            self._paused = False
            self._watch()
            if self.transport.pending():
                self._mark_dirty()
        return None

    @cython.ccall
    def run_sink(self) -> object:
        """Give the inbox to the synchronous consumer, as far as the peer takes what it answers."""
        self._run_sink()
        return None

    @cython.cfunc
    def _run_sink(self) -> object:
        consumer = self._sink
        inbox = self.inbox
        if self._in_sink:
            return None
        self._in_sink = True
        try:
            while inbox and self._sink is not None:
                if self.queued >= _WRITE_LIMIT:
                    self._write()
                    if self.queued >= _WRITE_LIMIT:
                        break
                result = consumer(self._pop())
                if result is not None and inspect.iscoroutine(result):
                    result.close()
                    raise TypeError(
                        f"{consumer!r} returned a coroutine: pass the async function itself, "
                        "or a plain function that answers with send_nowait"
                    )
        except BaseException as error:
            self._sink_error = error
            self._sink = None
            self._wake_receiver()
        finally:
            self._in_sink = False
        if not inbox:
            self._inbox_emptied()
            if self._is_gone:
                self._wake_receiver()
        if self._chunks and not self.blocked:
            self._write()
        return None

    def start_sink(self, consumer: Callable[[str | bytes], object]) -> None:
        """From now on ``consumer`` is called in place with every message."""
        self._sink = consumer
        self._sink_error = None

    def stop_sink(self) -> BaseException | None:
        """Back to the inbox; the error that the consumer raised, or None."""
        self._sink = None
        error: BaseException | None = self._sink_error
        self._sink_error = None
        return error

    @property
    def sinking(self) -> bool:
        return self._sink is not None

    @cython.ccall
    def wait_inbox(self, task: Task) -> cython.bint:
        """Have ``task`` rescheduled when the inbox or the state has changed; False if it has already.

        Raises when nothing more can come, or somebody else is receiving.
        """
        if self.closed_here:
            raise trio.ClosedResourceError("this side has closed the connection")
        if self._receiver is not None or self._sink is not None:
            raise already_receiving()
        if self._chunks and not self.blocked:
            self._write()  # whoever is about to wait writes
        if self.state == _GONE:
            if self.inbox:
                return False
            raise ConnectionClosed(self.close_reason)
        self._receiver = task
        return True

    def wait_here(self, task: Task | None) -> None:
        """``task`` is rescheduled when the inbox or the state has changed."""
        self._receiver = task

    @property
    def receiving(self) -> bool:
        return self._receiver is not None

    # -- control frames ----------------------------------------------------------------------

    @cython.cfunc
    def _act_on_controls(self) -> object:
        controls = self._decoder.controls[:]
        self._decoder.controls.clear()
        pongs: list[bytes] = []
        for control in controls:
            if isinstance(control, Ping):
                pongs.append(encode_frame(Opcode.PONG, control.payload))
            elif isinstance(control, Pong):
                self._take_pong(control.payload)
            elif isinstance(control, Close):
                self._answer_pings(pongs)
                self._take_close(control)
                return None
        self._answer_pings(pongs)
        return None

    @cython.cfunc
    def _first_free(self) -> cython.Py_ssize_t:
        """The first place in the queue where a frame may be put: not inside the one that is half sent."""
        if not self._head_sent:
            return 1 if self._in_frame else 0
        return 2 if isinstance(self._chunks[0], Header) else 1

    @cython.cfunc
    def _answer_pings(self, pongs: list[bytes]) -> object:
        """Every ping is answered, unless the peer does not read our answers.

        Then only the latest needs one (RFC 6455, section 5.5.3), so a flood of pings is bounded.
        """
        if pongs and self.state == _OPEN:
            self._pong = self._push_control(pongs[-1] if self.blocked else b"".join(pongs), self._pong)
        return None

    @cython.cfunc
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

    @cython.cfunc
    def _take_pong(self, payload: bytes) -> object:
        if not self._pings or payload not in self._pings:
            return None
        now = trio.current_time()
        while True:  # a pong answers the earlier pings too
            known, (sent, task) = next(iter(self._pings.items()))
            del self._pings[known]
            if task is not None:
                reschedule(task)
            if known == payload:
                self.latency = now - sent
                self.engine.ping_latency.observe(self.latency)
                return None

    def send_ping(self, task: Task | None) -> bytes:
        """Queue a ping; ``task`` is rescheduled at its pong or at the end."""
        if self._pings is None:
            self._pings = {}
        now = trio.current_time()
        self._ping_number += 1
        payload: bytes = int(self._ping_number).to_bytes(8, "big")
        self._pings[payload] = (now, task)
        self._push_control(encode_frame(Opcode.PING, payload))
        return payload

    def forget_ping(self, payload: bytes) -> None:
        """The task no longer waits; the pong still counts as life."""
        if self._pings and payload in self._pings:
            self._pings[payload] = (self._pings[payload][0], None)

    # -- sending -----------------------------------------------------------------------------

    @cython.cfunc
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
        if len(payload) >= _LARGE and self._gathers:
            self._payload = payload
            return Header(encode_header(opcode & 0x0F, len(payload)))
        frame: bytes = _frame(opcode, payload)
        return frame

    def write_raw(self, data: bytes) -> None:
        """Write bytes that are no message: the answer to the opening handshake."""
        self._chunks.append(data)
        self.queued += len(data)
        self._write()

    @cython.cfunc
    def _check_sendable(self) -> object:
        if self.closed_here:
            raise trio.ClosedResourceError("this side has closed the connection")
        if self.state != _OPEN:
            raise ConnectionClosed(self.close_reason or self._closing_reason())
        return None

    def _closing_reason(self) -> CloseReason:
        return CloseReason(CloseCode.GOING_AWAY, "the server is saying goodbye")

    @cython.ccall
    def try_send(self, message: object) -> cython.bint:
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

    @cython.ccall
    def send_nowait(self, message: object) -> object:
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
        return None

    @cython.cfunc
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

    @cython.ccall
    def offer(self, frame: Any) -> cython.bint:
        """Queue a frame that others share; False when it would pass the bound. For open links only."""
        size: cython.Py_ssize_t = len(frame)
        if self.queued and self.queued + size > self._queue_limit:
            return False
        self._push(frame)
        self._mark_dirty()
        return True

    @cython.cfunc
    def _mark_dirty(self) -> object:
        if not self._dirty:
            self._dirty = True
            dirty = self.engine.dirty
            dirty.append(self)
            if len(dirty) == 1:
                self.engine.flush_soon()
        return None

    def flush(self) -> None:
        """Write what is queued, as far as the transport takes it."""
        if self._dirty:
            self._dirty = False
            if not self._paused and not self.ended and self.transport.pending():
                self.readable(bytearray(65536), trio.current_time())
        if self._chunks and not self.blocked:
            self._write()

    def writable(self) -> None:
        """The transport takes bytes again."""
        self.blocked = False
        self._blocked_since = -1.0
        self._write()
        if not self.blocked:
            self._watch()
            if self._sink is not None and self.inbox:
                self._run_sink()

    @cython.cfunc
    def _write(self) -> object:
        """Write until the queue is empty or the transport has enough.

        Frames leave the queue only when the transport has taken them whole, so whatever happens the
        peer sees a prefix of well-formed frames (G2).
        """
        size: cython.Py_ssize_t
        sent: cython.Py_ssize_t
        if self._broken:
            self._discard_queue()
            return None
        while self._chunks:
            try:
                if len(self._chunks) == 1:
                    data = self._chunks[0]
                    if self._head_sent:
                        data = memoryview(data)[self._head_sent :]
                    size = len(data)
                    sent = self._send(data)
                elif self.queued > _JOIN_LIMIT and self._gathers:
                    parts = self._chunks[:_GATHERED]
                    if self._head_sent:
                        parts[0] = memoryview(parts[0])[self._head_sent :]
                    size = sum(map(len, parts))
                    sent = self.transport.send_gathered(parts)
                else:
                    data = self._joined()
                    size = len(data)
                    sent = self._send(data)
            except WOULD_BLOCK:
                self._block()
                break
            except OSError:
                self._lose_writing()
                return None
            self._written(sent)
            if sent < size:
                self._block()
                break
        if self._room is not None and self.queued < _WRITE_LIMIT:
            self._wake_room()
        if not self._chunks and self.state == _GONE:
            self._end()
        return None

    @cython.cfunc
    def _joined(self) -> object:
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

    @cython.cfunc
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

    @cython.cfunc
    def _block(self) -> object:
        now: cython.double = trio.current_time()
        if not self.blocked:
            self.blocked = True
            self._watch()
        self._blocked_since = now
        if self.settings.send_timeout is not None:
            self._check_at(now + self.settings.send_timeout)
        return None

    @cython.cfunc
    def _watch(self) -> object:
        if not self.ended:
            self.transport.watch(not self._paused, self.blocked)
        return None

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

    @cython.cfunc
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

    # -- the end -----------------------------------------------------------------------------

    def say_close(self, code: int, reason: str = "", closed_here: bool = False) -> None:
        """Queue our Close if none went before; with ``closed_here`` the owner receives nothing more."""
        payload = close_payload(code, reason)
        if self.state == _OPEN:
            self.state = int(TRANSITIONS[State(self.state), Turn.SEND_CLOSE])
            self.closed_by = "us"
            self.close_reason = None
            self._queue_close(payload)
        if closed_here and not self.closed_here:
            self.closed_here = True
            self._clear_inbox()
            self._inbox_emptied()
            self._tell_gone()
            self._wake_receiver()
        self._wake_room()
        self.flush()

    @cython.cfunc
    def _queue_close(self, payload: bytes) -> object:
        frame = encode_frame(Opcode.CLOSE, payload)
        self.queued += len(frame)
        if self._held is not None:  # the streamed message can't be completed any more
            for held in self._held:
                self.queued -= len(held)
            self._held = []
        self._chunks.append(frame)
        self._closing_since = trio.current_time()
        if self.settings.close_timeout is not None:
            self._check_at(self._closing_since + self.settings.close_timeout)
        self._mark_dirty()
        return None

    @cython.cfunc
    def _take_close(self, close: Close) -> object:
        if self.state == _OPEN:
            self.closed_by = "peer"
            self._queue_close(b"" if close.code == CloseCode.NO_STATUS else close.code.to_bytes(2, "big"))
        self._turn_gone(Turn.RECEIVE_CLOSE, CloseReason(close.code, close.reason))
        self.flush()
        if not self._chunks:
            self._end()
        return None

    @cython.cfunc
    def _turn_gone(self, turn: Any, reason: CloseReason) -> object:
        self.state = int(TRANSITIONS[State(self.state), turn])
        if self.close_reason is None:
            self.close_reason = reason
        self._tell_gone()
        self._wake_receiver()
        self._wake_room()
        return None

    @cython.cfunc
    def _tell_gone(self) -> object:
        """Cancel what works for the peer (G9); what waits for messages finds out by itself."""
        if self.state == _GONE and not self._is_gone:
            self._is_gone = True
            self.gone_at = trio.current_time()
        scopes = self._gone_scopes
        self._gone_scopes = None
        if scopes is not None:
            for scope in scopes:
                scope.cancel()
        if self._pings is not None:
            for _, task in self._pings.values():
                if task is not None:
                    reschedule(task)
            self._pings = None
        return None

    @cython.cfunc
    def _fail(self, error: ProtocolError) -> object:
        """The peer broke the protocol: say which rule, and end (RFC 6455, section 7.1.7)."""
        self.closed_by = self.closed_by or "us"
        reason = CloseReason(error.code, str(error))
        if self.state == _OPEN:
            self._queue_close(close_payload(error.code, str(error)))
        self._turn_gone(Turn.LOSE_PEER, reason)
        self.flush()
        if not self._chunks:
            self._end()
        return None

    @cython.cfunc
    def _lose(self, why: str) -> object:
        """The transport is gone, or given up."""
        if self.ended and self.state == _GONE:
            self._drop_transport(False)
            return None
        if not self._is_gone or self.state != _GONE:
            self.closed_by = self.closed_by or "network"
            self._turn_gone(Turn.LOSE_PEER, CloseReason(CloseCode.ABNORMAL, why))
        self._drop_transport(False)
        return None

    @cython.cfunc
    def _lose_writing(self) -> object:
        """Nothing more can be written; what the peer sent before may still be there to read."""
        self._broken = True
        self._discard_queue()
        buffer = bytearray(65536)
        self._paused = False
        while not self.ended:
            before = self.bytes_in
            self.readable(buffer, trio.current_time())
            if self.bytes_in == before:
                break
        self._lose("the connection was reset")
        return None

    @cython.cfunc
    def _discard_queue(self) -> object:
        self._chunks.clear()
        self.queued = 0
        self._head_sent = 0
        self._in_frame = False
        return None

    def abort(self, why: str) -> None:
        """End at once: no goodbye, and nothing that is queued."""
        if self.state != _GONE:
            self.closed_by = self.closed_by or "us"
            self._turn_gone(Turn.LOSE_PEER, CloseReason(CloseCode.ABNORMAL, why))
        self._drop_transport(True)

    @cython.cfunc
    def _end(self) -> object:
        """Both goodbyes are said and written: the server ends the TCP connection (section 7.1.1)."""
        if self.ended:
            return None
        self.ended = True
        self._paused = False
        if self.transport.finish(self._decoder.closed):
            self.engine.timers.forget(self._timer)
            self._timer = None
        else:
            self.transport.watch(True, False)
        self._wake_ended()
        return None

    @cython.cfunc
    def _drop_transport(self, abort: cython.bint) -> object:
        self.ended = True
        self._discard_queue()
        self.engine.timers.forget(self._timer)
        self._timer = None
        self.transport.close(abort)
        self._wake_ended()
        self._wake_room()
        return None

    @cython.cfunc
    def _wake_ended(self) -> object:
        tasks = self._end_waiters
        self._end_waiters = None
        if tasks is not None:
            for task in tasks:
                reschedule(task)
        return None

    def wait_ended(self, task: Task) -> None:
        """``task`` is rescheduled when nothing more will be written."""
        if self._end_waiters is None:
            self._end_waiters = []
        self._end_waiters.append(task)

    def leave_ended(self, task: Task) -> None:
        """``task`` no longer waits."""
        if self._end_waiters is not None and task in self._end_waiters:
            self._end_waiters.remove(task)

    @property
    def is_gone(self) -> bool:
        """The peer has said goodbye or vanished, or this side has closed."""
        return bool(self._is_gone or self.closed_here)

    def add_gone_scope(self, scope: trio.CancelScope) -> None:
        """``scope`` is cancelled when the peer is gone."""
        if self._is_gone or self.closed_here:
            scope.cancel()
            return
        if self._gone_scopes is None:
            self._gone_scopes = []
        self._gone_scopes.append(scope)

    def remove_gone_scope(self, scope: trio.CancelScope) -> None:
        """``scope`` has ended."""
        if self._gone_scopes is not None and scope in self._gone_scopes:
            self._gone_scopes.remove(scope)

    # -- deadlines ---------------------------------------------------------------------------

    @cython.cfunc
    def _check_at(self, when: cython.double) -> object:
        if self._next_check < 0 or when < self._next_check:
            self._next_check = when
            self.engine.timers.forget(self._timer)
            self._timer = self.engine.timers.at(when, self.check)
        return None

    def check(self, now: float) -> None:
        """Look at every deadline; set the time to look again.

        A deadline is compared by the very sum that it was set with: a difference that is rounded
        otherwise would set it again for this instant, for ever.
        """
        self._timer = None
        self._next_check = -1.0
        settings = self.settings
        if self.ended:
            self._check_linger(now)
            return
        if self.blocked and settings.send_timeout is not None:
            if now >= self._blocked_since + settings.send_timeout:
                self.abort("the peer took no data for too long")
                return
            self._check_at(self._blocked_since + settings.send_timeout)
        if self._closing_since >= 0 and settings.close_timeout is not None:
            if now >= self._closing_since + settings.close_timeout:
                self.abort("the peer did not answer our Close")
                return
            self._check_at(self._closing_since + settings.close_timeout)
        elif settings.ping_interval is not None:
            self._check_alive(now)

    @cython.cfunc
    def _check_alive(self, now: cython.double) -> object:
        """Any traffic counts as life; a ping goes out only to a silent peer."""
        interval: cython.double = self.settings.ping_interval
        if self._paused:  # nothing is read until the handler has caught up, so silence says nothing
            self._keepalive_since = -1.0
            self._check_at(now + interval)
            return None
        if self._keepalive_since >= 0 and self.last_seen >= self._keepalive_since:
            self._keepalive_since = -1.0
        if self._keepalive_since >= 0:
            if self.settings.ping_timeout is None:
                self._check_at(now + interval)
                return None
            timeout: cython.double = self.settings.ping_timeout
            if now >= self._keepalive_since + timeout:
                self.abort("the peer did not answer a ping")
                return None
            self._check_at(self._keepalive_since + timeout)
        elif now >= self.last_seen + interval:
            self._keepalive_since = now
            self.send_ping(None)
            self._check_at(now + min(self.settings.ping_timeout or interval, interval))
        else:
            self._check_at(self.last_seen + interval)
        return None

    @cython.cfunc
    def _check_linger(self, now: cython.double) -> object:
        """The peer has both goodbyes but does not end its side: end it for it."""
        timeout = self.settings.close_timeout
        if timeout is None:
            return None
        if now >= self._closing_since + timeout:
            self._drop_transport(True)
        else:
            self._check_at(self._closing_since + timeout)
        return None


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
