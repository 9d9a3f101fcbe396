"""The synchronous whole of a connection: from bytes to the inbox, on top of everything that is sent.

Nothing here waits. A link grows in four files, one half on the other: what waits for the peer
(``outgoing``), how it ends (``ending``), whether the peer is there (``liveness``), and what comes in.
Plain Python that Cython also compiles: the C types are in ``link.pxd``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

import cython
import trio
from outcome import Value
from trio.lowlevel import Task, reschedule

from ..errors import ConnectionClosed, already_receiving
from ..protocol.closing import State
from ..protocol.decoder import Close, Decoder, Ping, Pong
from ..protocol.errors import ProtocolError
from ..protocol.frames import Opcode, encode_frame
from .liveness import Liveness
from .transport import BLOCKED, LOST
from .writing import WRITE_LIMIT

if TYPE_CHECKING:
    from ..protocol.deflate import PerMessageDeflate
    from ..settings import Settings
    from .engine import Engine
    from .transport import Transport

COMPILED: bool = cython.compiled

_WRITE_LIMIT = WRITE_LIMIT
_BLOCKED = BLOCKED
_LOST = LOST
_GONE = int(State.GONE)


class Link(Liveness):
    """Bytes in, messages out, and back; state, bounds and counters of one connection."""

    def __init__(
        self,
        engine: Engine,
        transport: Transport,
        settings: Settings,
        deflate: PerMessageDeflate | None = None,
    ) -> None:
        super().__init__(engine, transport, settings, deflate)
        inflate = None if deflate is None else deflate.inflate
        self.messages_in = self.bytes_in = 0
        self._taken = 0
        self._inbox_bytes = 0
        self._inbox_limit = settings.max_inbox_bytes
        self._decoder = Decoder(settings.max_message_size, settings.max_fragments, inflate)
        self._receiver: Task | Callable[[], object] | None = None  # waits for a message
        self._sink: Callable[[str | bytes], object] | None = None  # a synchronous consumer
        self._sink_context: Context | None = None
        self._sink_error: BaseException | None = None
        self._sink_scope: trio.CancelScope | None = None  # what the consumer's failure cancels

    # -- from the transport ------------------------------------------------------------------

    def readable(self, buffer: bytearray, now: cython.double) -> object:
        """Take what the transport has, and act on it."""
        size: cython.Py_ssize_t
        while True:
            size = self.transport.recv_into(buffer)
            if size == _BLOCKED:
                return None
            if size == _LOST:
                self._lose("the connection was reset")
                return None
            if size == 0:
                self._lose("the peer went away without a goodbye")
                return None
            self.last_seen = now
            self.feed(buffer, size)
            if self._paused or size < 16384 or self.ended or not self.transport.pending():
                return None

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

    def _lose_writing(self) -> object:
        """Nothing more can be written; what the peer sent before may still be there to read."""
        self._broken = True
        self._discard_queue()
        buffer = bytearray(65536)
        self._paused = False
        while not self.ended:
            before = self.bytes_in
            self.readable(buffer, self.engine.now())
            if self.bytes_in == before:
                break
        self._lose("the connection was reset")
        return None

    # -- the inbox ---------------------------------------------------------------------------

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

    def take(self) -> str | bytes:
        """The next message of the inbox; reading goes on when the inbox is empty."""
        message: Any = self._pop()
        if not self.inbox:
            self._inbox_emptied()
        return message  # type: ignore[no-any-return]

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

    def _clear_inbox(self) -> object:
        self.inbox.clear()
        self._taken = 0
        self._inbox_bytes = 0
        return None

    def _forget_inbox(self) -> object:
        self._clear_inbox()
        self._inbox_emptied()
        return None

    def _inbox_emptied(self) -> object:
        self._inbox_bytes = 0
        if self._paused:
            self._paused = False
            self._watch()
            if self.transport.pending():  # what no watch on the socket would show
                self.engine.timers.at(self.engine.now(), self._read_pending)
        return None

    def _read_pending(self, now: float) -> None:
        if not self._paused and not self.ended:
            self.readable(bytearray(65536), now)

    @property
    def unreceived(self) -> int:
        """How many messages wait to be received."""
        return int(len(self.inbox) - self._taken)

    def wait_inbox(self, task: Task) -> bool:
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
            raise ConnectionClosed(self._close_reason or self._closing_reason(), self)  # type: ignore[arg-type]
        self._receiver = task
        return True

    def wait_here(self, waiter: Task | Callable[[], object] | None) -> None:
        """When the inbox or the state has changed, a task is rescheduled, a function is called."""
        self._receiver = waiter

    def dismiss(self, value: object) -> None:
        """The task that waits for a message goes on with ``value``."""
        task, self._receiver = self._receiver, None
        reschedule(task, Value(value))  # type: ignore[arg-type]  # only tasks are dismissed

    def waits(self, task: Task) -> bool:
        """Whether ``task`` waits for a message, and none has come."""
        return self._receiver is task

    @property
    def receiving(self) -> bool:
        return self._receiver is not None

    def _wake_receiver(self) -> object:
        waiter: Any = self._receiver
        if waiter is not None:
            self._receiver = None
            self.engine.woken = True
            if isinstance(waiter, Task):
                reschedule(waiter)
            else:
                waiter()
        return None

    # -- a synchronous consumer --------------------------------------------------------------

    def run_sink(self) -> object:
        """Give the inbox to the synchronous consumer, as far as the peer takes what it answers."""
        self._run_sink()
        return None

    def _run_sink(self) -> object:
        context = self._sink_context
        if self._in_sink or context is None:
            return None
        self._in_sink = True
        try:
            context.run(self.call_sink)
        except BaseException as error:
            self._sink_error = error
            self._sink = None
            if self._sink_scope is not None:
                self._sink_scope.cancel()
            self._wake_receiver()
        finally:
            self._in_sink = False
        if not self.inbox:
            self._inbox_emptied()
            if self._is_gone:
                self._wake_receiver()
        if self._chunks and not self.blocked:
            self._write()
        return None

    def call_sink(self) -> None:
        """Call the synchronous consumer with one message after the other, in its own context."""
        consumer: Any = self._sink
        inbox = self.inbox
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

    def _drained(self) -> object:
        if self._sink is not None and self.inbox:
            self._run_sink()
        return None

    def start_sink(self, consumer: Callable[[str | bytes], object], scope: trio.CancelScope | None) -> None:
        """From now on ``consumer`` is called in place with every message; its failure cancels ``scope``.

        It sees the context variables of whoever calls this, although it runs wherever messages come in.
        """
        self._sink = consumer
        self._sink_context = copy_context()
        self._sink_scope = scope

    def stop_sink(self) -> BaseException | None:
        """Back to the inbox; the error that the consumer raised, or None."""
        self._sink = self._sink_scope = self._sink_context = None
        error: BaseException | None = self._sink_error
        self._sink_error = None
        return error

    @property
    def sinking(self) -> bool:
        return self._sink is not None
