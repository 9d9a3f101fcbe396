"""The waiting half of our own connections: every method here that is async is a checkpoint."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import aclosing, nullcontext
from types import AsyncGeneratorType

import trio
from trio.lowlevel import (
    Abort,
    Task,
    checkpoint,
    checkpoint_if_cancelled,
    current_task,
    wait_task_rescheduled,
)

from ..connection import Connection, Message
from ..errors import CloseCode, ConnectionClosed, already_receiving
from ..protocol.closing import State, close_payload
from ..protocol.deflate import PerMessageDeflate
from ..protocol.frames import Opcode
from ..request import Request
from ..settings import Settings
from .engine import Engine
from .link import Link
from .transport import Transport
from .waiting import CancelWhenGone
from .writing import WRITE_LIMIT

# A task that never has to wait still lets the others run after this many messages.
_MESSAGES_A_TURN = 64

Beside = Callable[[], Awaitable[bool]]


class WireConnection(Link, Connection):
    """A connection whose bytes go through our own wire; the server makes them."""

    def __init__(
        self,
        engine: Engine,
        transport: Transport,
        settings: Settings,
        request: Request,
        *,
        remote: str = "",
        subprotocol: str | None = None,
        deflate: PerMessageDeflate | None = None,
    ) -> None:
        super().__init__(engine, transport, settings, deflate)
        self._id = engine.new_id()
        self._remote = remote
        self._request = request
        self._subprotocol = subprotocol
        self._turn = _MESSAGES_A_TURN
        self.opened_at = engine.now()

    __slots__ = ("_id", "_remote", "_request", "_subprotocol", "_turn", "opened_at")

    @property
    def id(self) -> str:
        return self._id

    @property
    def remote(self) -> str:
        return self._remote

    @property
    def request(self) -> Request:
        return self._request

    @property
    def subprotocol(self) -> str | None:
        return self._subprotocol

    async def receive(self) -> Message:
        if self.inbox:
            await self.breathe()
        while not self.inbox:
            if self.wait_inbox(current_task()):
                await wait_task_rescheduled(self._abort_receive)
        return self.take()

    async def __anext__(self) -> Message:
        # The loop `async for` is the hot path: no more coroutines a message than it needs.
        if self.inbox:
            self._turn -= 1
            if self._turn:
                await checkpoint_if_cancelled()
            else:
                self._turn = _MESSAGES_A_TURN
                await checkpoint()
        try:
            while not self.inbox:
                if self.wait_inbox(current_task()):
                    await wait_task_rescheduled(self._abort_receive)
        except ConnectionClosed:
            raise StopAsyncIteration from None
        return self.take()

    async def breathe(self) -> None:
        """A checkpoint that lets others run only now and then."""
        self._turn -= 1
        if self._turn:
            await checkpoint_if_cancelled()
        else:
            self._turn = _MESSAGES_A_TURN
            await checkpoint()

    def _abort_receive(self, _raise_cancel: object) -> Abort:
        self.wait_here(None)
        return Abort.SUCCEEDED

    async def consume_inline(
        self,
        consumer: Callable[[Message], object],
        beside: Beside | None = None,
        scope: trio.CancelScope | None = None,
    ) -> None:
        """As every connection's; meanwhile this task runs ``beside()`` where that is given.

        When it returns True the consumer is not called any more. ``scope`` is cancelled when the
        consumer fails.
        """
        await checkpoint_if_cancelled()
        self.check_free()
        self.start_sink(consumer, scope)
        try:
            self.run_sink()
            if beside is not None and await beside():
                return
            while self.sinking and not self.closed_here and (self.inbox or self.state != State.GONE):
                self.wait_here(current_task())
                await wait_task_rescheduled(self._abort_receive)
        finally:
            error = self.stop_sink()
            if error is not None:
                raise error  # also instead of a cancellation that the consumer itself asked for

    def check_free(self) -> None:
        """Raise what ``receive`` would where it may not be called at all."""
        if self.receiving or self.sinking:
            raise already_receiving()
        if self.closed_here:
            raise trio.ClosedResourceError("this side has closed the connection")

    async def send(self, message: Message) -> None:
        self._turn -= 1
        if self._turn:
            await checkpoint_if_cancelled()
        else:
            self._turn = _MESSAGES_A_TURN
            await checkpoint()
        while not self.try_send(message):
            await self._wait_room()

    async def _wait_room(self) -> None:
        """Return when a message may fit, or when none will any more."""
        self.flush()
        if self.has_room or self.state != State.OPEN:
            return
        task = current_task()
        self.wait_room(task)
        await wait_task_rescheduled(self._leave_room_of(task))

    def _leave_room_of(self, task: Task) -> Callable[[object], Abort]:
        def abort(_raise_cancel: object) -> Abort:
            self.leave_room(task)
            return Abort.SUCCEEDED

        return abort

    async def send_stream(self, fragments: AsyncIterable[str] | AsyncIterable[bytes]) -> None:
        # A generator that is left half way must be closed here, not by the garbage collector.
        closing = aclosing(fragments) if isinstance(fragments, AsyncGeneratorType) else nullcontext()
        async with closing:
            await checkpoint_if_cancelled()
            while not self.has_room:
                await self._wait_room()
            self._check_open()
            await self._send_fragments(fragments)

    async def _send_fragments(self, fragments: AsyncIterable[str] | AsyncIterable[bytes]) -> None:
        self.hold()
        begun = False
        try:
            opcode = None
            async for fragment in fragments:
                if not begun:
                    opcode = Opcode.TEXT if isinstance(fragment, str) else Opcode.BINARY
                payload = fragment.encode() if isinstance(fragment, str) else bytes(memoryview(fragment))
                if isinstance(fragment, str) != (opcode is Opcode.TEXT):
                    raise TypeError("the fragments of one message are all str or all bytes")
                await self._wait_queue()
                self.push_fragment(Opcode.CONTINUATION if begun else Opcode(opcode or 0), payload, False)
                begun = True
            if begun:
                self.push_fragment(Opcode.CONTINUATION, b"", True)
            begun = False
        finally:
            if begun and self.state == State.OPEN:
                self.say_close(CloseCode.INTERNAL_ERROR, "a streamed message broke off")
            self.release()

    async def _wait_queue(self) -> None:
        while self.blocked and self.queued >= WRITE_LIMIT:
            task = current_task()
            self.wait_room(task)
            await wait_task_rescheduled(self._leave_room_of(task))
        await checkpoint_if_cancelled()

    def _check_open(self) -> None:
        if self.closed_here:
            raise trio.ClosedResourceError("this side has closed the connection")
        if self.state != State.OPEN:
            raise ConnectionClosed(self.close_reason or self._closing_reason(), self)

    async def ping(self) -> float:
        await checkpoint_if_cancelled()
        self._check_open()
        payload = self.send_ping(current_task())
        sent = trio.current_time()

        def abort(_raise_cancel: object) -> Abort:
            self.forget_ping(payload)
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)
        self._check_open()
        return trio.current_time() - sent

    async def aclose(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        close_payload(code, reason)  # says what is wrong with them before anything happens
        self.say_close(code, reason, closed_here=True)
        try:
            await checkpoint_if_cancelled()
            await self.wait_ended_or_aborted()
        except trio.Cancelled:
            self.abort("the goodbye was cancelled")
            raise

    async def wait_ended_or_aborted(self) -> None:
        """Wait until both goodbyes are said, or the connection was given up."""
        if self.ended:
            await checkpoint()
            return
        task = current_task()
        self.wait_ended(task)

        def abort(_raise_cancel: object) -> Abort:
            self.leave_ended(task)
            return Abort.SUCCEEDED

        await wait_task_rescheduled(abort)

    def disconnect_slow(self) -> None:
        """End a peer whose queue is full: it gets 1013 when it reads at all, in the place of the queue."""
        self.drop_oldest(1 << 62)
        self.say_close(CloseCode.TRY_AGAIN_LATER, "too slow")

    async def wait_closed(self) -> None:
        with trio.CancelScope() as scope:
            self.add_gone_scope(scope)
            try:
                await trio.sleep_forever()
            finally:
                self.remove_gone_scope(scope)

    def cancel_when_gone(self, scope: trio.CancelScope) -> CancelWhenGone:
        return CancelWhenGone(self, scope)

    def __repr__(self) -> str:
        return f"<Connection {self._id} from {self._remote or 'memory'}, {State(self.state).name}>"
