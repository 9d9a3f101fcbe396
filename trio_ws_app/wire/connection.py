"""The waiting half of our own connections.

Every async method here is a checkpoint for cancellation, always; sends and receives that need not wait are
one for the schedule every ``link.MESSAGES_A_TURN`` times.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import aclosing, nullcontext
from types import AsyncGeneratorType

import trio
from trio.lowlevel import Abort, checkpoint, checkpoint_if_cancelled, current_task, wait_task_rescheduled

from ..callbacks import in_own_context, refuse_coroutine
from ..connection import Connection, Message
from ..errors import CloseCode, CloseReason, already_receiving
from ..json_codec import JsonCodec
from ..protocol.closing import State, close_payload
from ..protocol.deflate import PerMessageDeflate
from ..protocol.frames import Opcode
from ..request import Request
from ..settings import Settings
from .closing import CancelWhenGone
from .engine import Engine
from .inline import InlineConsumer
from .link import Link
from .outbox import WRITE_LIMIT
from .overflow import SharedFrames
from .rates import MessageRate, message_rate
from .transport import Transport


class WireConnection(Link, Connection):
    """A connection whose bytes go through our own wire; the server makes them."""

    __slots__ = ("_rate", "_shared_frames", "id", "opened_at", "remote", "request", "subprotocol")

    def __init__(
        self,
        engine: Engine,
        transport: Transport,
        settings: Settings,
        request: Request,
        remote: str = "",
        subprotocol: str | None = None,
        deflate: PerMessageDeflate | None = None,
    ) -> None:
        super().__init__(engine, transport, settings, deflate)
        self.id = engine.new_id()
        self.remote = remote
        self.request = request
        self.subprotocol = subprotocol
        self._shared_frames: SharedFrames | None = None
        self.opened_at = self.last_seen
        self._rate = message_rate(settings, self.opened_at)

    @property
    def json(self) -> JsonCodec:
        return self.settings.json

    @property
    def latency(self) -> float | None:
        return self.pings.latency

    @property
    def close_reason(self) -> CloseReason | None:
        return self.closing.reason

    @property
    def messages_out(self) -> int:
        """How many messages were queued for the peer."""
        return self.sender.count

    @property
    def queued(self) -> int:
        """What waits for the peer: bytes, and an overhead for each message."""
        return self.outbox.queued_cost()

    @property
    def waiting(self) -> int:
        """What waits here in both directions: bytes, and an overhead for each message."""
        return self.outbox.queued_cost() + self.inbox.held

    @property
    def shared_frames(self) -> SharedFrames:
        """Those that wait and may give way, for overflow policies; made when it is asked for."""
        if self._shared_frames is None:
            self._shared_frames = SharedFrames(self.outbox)
        return self._shared_frames

    # -- receiving ---------------------------------------------------------------------------

    async def receive(self) -> Message:
        if self.busy:
            raise already_receiving()
        if self._rate is not None:
            return await self._receive_in_time(self._rate, with_room=False)
        if self.inbox.messages:
            if self.is_turn_over():
                await self._wait_while_receiving(checkpoint)
            else:
                await checkpoint_if_cancelled()
        while self.must_wait():
            self.begin_waiting(current_task())
            await wait_task_rescheduled(self._abort_receive)
            self.busy = False
        return self.take()

    async def _receive_in_time(self, rate: MessageRate, *, with_room: bool) -> Message:
        """As ``receive``, not faster than ``rate`` has it; ``with_room``, if there is room for an answer."""
        while True:
            if rate.policy == "slow" and (seconds := rate.wait(self.engine.now())) > 0:
                await self._wait_for_turn(seconds)
            if self.is_turn_over():
                await self._wait_while_receiving(checkpoint)
            else:
                await checkpoint_if_cancelled()
            while self.must_wait() or (with_room and self._is_full()):
                if self.inbox.messages:
                    await self._wait_while_receiving(self._wait_for_room)
                else:
                    self.begin_waiting(current_task())
                    await wait_task_rescheduled(self._abort_receive)
                    self.busy = False
            message, now = self.take(), self.engine.now()
            if rate.policy == "slow" or rate.wait(now) <= 0:
                rate.count(message, now)
                return message
            self.dropped += 1
            self.engine.drops["rate"] += 1
            if rate.policy == "close":
                self.send_close(CloseCode.POLICY_VIOLATION, "too many messages")

    async def _wait_for_turn(self, seconds: float) -> None:
        with trio.move_on_after(seconds) as scope, self.cancel_when_gone(scope):
            await self._wait_while_receiving(trio.sleep_forever)

    async def _wait_while_receiving(self, wait: Callable[[], Awaitable[None]]) -> None:
        self.busy = True
        try:
            await wait()
        finally:
            self.busy = False

    def _abort_receive(self, _raise_cancel: object) -> Abort:
        self.inbox.leave()
        self.busy = False
        return Abort.SUCCEEDED

    async def consume_inline(self, consumer: Callable[[Message], object]) -> None:
        await checkpoint_if_cancelled()
        if self.busy:
            raise already_receiving()
        if self._rate is not None:
            await self._consume_in_time(consumer, self._rate)
            return
        self.consumer = inline = InlineConsumer(consumer, self.inbox, self.outbox)
        try:
            self.consume_on()
            while inline.error is None and (self.inbox.messages or self.must_wait()):
                if self.inbox.messages and self.outbox.has_room():
                    await self._wait_while_receiving(checkpoint)  # it has had its share of this turn
                else:
                    self.begin_waiting(current_task())
                    await wait_task_rescheduled(self._abort_receive)
                    self.busy = False
                if self.closing.closed_here:
                    break  # by a sibling, or by the consumer: a way to end
                self.consume_on()
        finally:
            self.consumer = None
            inline.stop()
            if inline.error is not None:
                raise inline.error  # also instead of a cancellation that the consumer itself asked for

    async def _consume_in_time(self, consumer: Callable[[Message], object], rate: MessageRate) -> None:
        """As ``consume_inline``, one message after the other."""
        if self.closing.closed_here:
            raise trio.ClosedResourceError("this side has closed the connection")
        call = in_own_context(consumer)
        while not self.closing.closed_here:
            try:
                message = await self._receive_in_time(rate, with_room=True)
            except trio.ClosedResourceError:
                break  # by a sibling: a way to end
            refuse_coroutine(consumer, call(message), "pass the async function itself, or a plain function")

    # -- sending -----------------------------------------------------------------------------

    async def send(self, message: Message) -> None:
        if self.is_turn_over():
            await checkpoint()
        else:
            await checkpoint_if_cancelled()
        while not self.try_send(message):
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        """Return when a message may fit, or when none will any more."""
        self.sender.flush()
        if self._is_full():
            await self.outbox.waiting().park()

    def _is_full(self) -> bool:
        """Whether a send has to wait, and will be able to go on."""
        return not self.outbox.has_room() and not self.outbox.sealed

    async def send_stream(self, fragments: AsyncIterable[str] | AsyncIterable[bytes]) -> None:
        # A generator that is left half way must be closed here, not by the garbage collector.
        closing = aclosing(fragments) if isinstance(fragments, AsyncGeneratorType) else nullcontext()
        async with closing:
            await checkpoint_if_cancelled()
            self.check_sendable()
            while not self.outbox.has_room():
                await self._wait_for_room()
                self.check_sendable()
            await self._send_fragments(fragments)

    async def _send_fragments(self, fragments: AsyncIterable[str] | AsyncIterable[bytes]) -> None:
        self.outbox.begin_stream()
        begun: Opcode | None = None  # a message of this kind, which is not whole
        try:
            async for fragment in fragments:
                kind = Opcode.TEXT if isinstance(fragment, str) else Opcode.BINARY
                payload = fragment.encode() if isinstance(fragment, str) else bytes(memoryview(fragment))
                if begun not in (None, kind):
                    raise TypeError("the fragments of one message are all str or all bytes")
                while not self.outbox.has_room_for_fragment() and not self.outbox.sealed:
                    await self.outbox.waiting().park()
                await checkpoint_if_cancelled()
                self.check_sendable()
                self.sender.push_fragment(Opcode.CONTINUATION if begun else kind, payload, False)
                begun = kind
            if begun:
                self.check_sendable()
                self.sender.push_fragment(Opcode.CONTINUATION, b"", True)
                begun = None
        finally:
            if begun and not self.outbox.sealed:
                self.send_close(CloseCode.INTERNAL_ERROR, "a streamed message broke off")
            self.sender.end_stream()
            self.consume_on()

    async def ping(self) -> float:
        await checkpoint_if_cancelled()
        self.check_sendable()
        if self.closing.gone_at >= 0:
            raise self.closed_error()  # nothing is read after a Close, not even a pong
        sent, over = trio.current_time(), trio.Event()
        payload = self.pings.add(sent, over)
        self.sender.ping(payload)
        try:
            await over.wait()
        finally:
            self.pings.forget(payload)
        self.check_sendable()
        if self.closing.gone_at >= 0:
            raise self.closed_error()  # it was over by that, not by a pong
        return trio.current_time() - sent

    # -- closing -----------------------------------------------------------------------------

    async def aclose(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        close_payload(code, reason)  # says what is wrong with them before anything happens
        self.send_close(code, reason, closed_here=True)
        try:
            await checkpoint_if_cancelled()
            await self.wait_ended()
        except trio.Cancelled:
            self.abort("the closing handshake was cancelled")
            raise

    async def wait_ended(self) -> None:
        """Wait until both Closes are written, or the connection was given up."""
        if self.closing.ended:
            await checkpoint()
        else:
            await self.closing.waiting().park()

    def disconnect_slow(self) -> None:
        """End a peer whose queue is full: it gets 1013 when it reads at all, in the place of the queue."""
        self.shared_frames.drop_oldest(1 << 60)
        self.send_close(CloseCode.TRY_AGAIN_LATER, "too slow")

    def relieve(self) -> None:
        """End, since too much waits in the server: with 1013, or at once if that would have to wait too."""
        self.inbox.clear()
        if not self.outbox.sealed:
            self.disconnect_slow()
        if self.waiting >= WRITE_LIMIT:
            self.abort("too much waited in the server")
            self.inbox.clear()
            self.inbox.decoder.discard()

    async def wait_closed(self) -> None:
        with trio.CancelScope() as scope, self.cancel_when_gone(scope):
            await trio.sleep_forever()

    def cancel_when_gone(self, scope: trio.CancelScope) -> CancelWhenGone:
        return CancelWhenGone(self.closing, scope)

    def __repr__(self) -> str:
        state = State(self.closing.state).name
        return f"<Connection {self.id} from {self.remote or 'memory'}, {state}>"
