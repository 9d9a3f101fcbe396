"""The connection behind ``from_trio_websocket``, ``connect`` and ``from_asgi``."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import NoReturn

import trio

from ..callbacks import in_own_context, refuse_coroutine
from ..connection import Connection, Message, as_message
from ..errors import CloseCode, CloseReason, ConnectionClosed, already_receiving
from ..json_codec import JsonCodec
from ..protocol.closing import close_payload
from ..request import Request
from ..settings import Settings
from .queues import Inbox, Outbox, Peer, PeerClosed, Task

_VANISHED = CloseReason(CloseCode.ABNORMAL)


class AdaptedConnection(Connection):
    """A connection of another library as a ``Connection``.

    ``nursery`` runs its tasks: one that receives ahead, one that writes while there is something to
    write, and one for each ping. None says that the connection is over.
    """

    def __init__(
        self,
        peer: Peer,
        nursery: trio.Nursery | None,
        *,
        remote: str,
        request: Request,
        settings: Settings,
    ) -> None:
        self._peer = peer
        self._nursery = nursery
        self.id = str(peer)
        self.remote = remote
        self.request = request
        self.subprotocol = peer.subprotocol
        self._settings = settings
        self._inbox = Inbox(peer, settings.max_inbox_bytes, self._start, self._end)
        self._outbox = Outbox(peer, settings.max_queue_bytes, self._start, self._end)
        self._receiving = False
        self._closed_here = False
        self._aborted: CloseReason | None = None
        self._latency: float | None = None
        self._gone = trio.Event()
        self._scopes: set[trio.CancelScope] = set()
        if nursery is None:
            self._end()
        else:
            self._inbox.read_ahead()

    @property
    def json(self) -> JsonCodec:
        return self._settings.json

    @property
    def latency(self) -> float | None:
        return self._latency

    @property
    def close_reason(self) -> CloseReason | None:
        if self._aborted is not None:
            return self._aborted
        closed = self._peer.closed
        if closed is not None:
            return CloseReason(int(closed.code), closed.reason or "")
        return _VANISHED if self._gone.is_set() else None

    # Receiving

    async def receive(self) -> Message:
        return await self._receive(with_room=False)

    async def _receive(self, *, with_room: bool) -> Message:
        """The next message; ``with_room``, once there is room for an answer too."""
        if self._receiving:
            raise already_receiving()
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            self._raise_if_closed_here()
            while not self._inbox or (with_room and self._outbox.is_full):
                await self._wait_to_take()
                if self._closed_here:
                    await self._raise_end()
            message = self._inbox.take()
            if not self._gone.is_set():
                self._inbox.read_ahead()
            return message
        finally:
            self._receiving = False

    async def _wait_to_take(self) -> None:
        if self._inbox:
            await self._outbox.wait_for_room()
        elif self._inbox.is_reading:
            await self._inbox.wait()
        elif not await self._inbox.receive_rest():
            await self._raise_end()

    async def consume_inline(self, consumer: Callable[[Message], object]) -> None:
        call = in_own_context(consumer)
        self._raise_if_closed_here()
        while True:
            try:
                message = await self._receive(with_room=True)
            except (ConnectionClosed, trio.ClosedResourceError):
                return  # closed by the peer, or meanwhile by a sibling
            refuse_coroutine(consumer, call(message), "pass the async function itself, or a plain function")

    @property
    def is_reading(self) -> bool:
        """Whether something is received from the peer now: not while the inbox is full."""
        return self._inbox.is_reading

    # Sending

    async def send(self, message: Message) -> None:
        message = as_message(message)
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._outbox.wait_for_room()
        self._raise_if_over()
        if not await self._outbox.deliver(message):
            await self._raise_end()

    def send_nowait(self, message: Message) -> None:
        message = as_message(message)
        self._raise_if_over()
        if self._outbox.is_full:
            raise trio.WouldBlock
        self._outbox.put(message)

    async def send_stream(self, fragments: AsyncIterable[str] | AsyncIterable[bytes]) -> None:
        pieces: list[str | bytes] = [piece async for piece in fragments]
        if all(isinstance(piece, str) for piece in pieces) and pieces:
            await self.send("".join(pieces))  # type: ignore[arg-type]  # all of them are str
        else:
            await self.send(b"".join(pieces))  # type: ignore[arg-type]  # a mixture raises TypeError

    async def ping(self) -> float:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._raise_if_over()
        over, scope, sent_at = trio.Event(), trio.CancelScope(), trio.current_time()
        latency: float | None = None

        # A task of its own: trio-websocket keeps each ping until its pong, also one that is given up.
        async def wait_for_pong() -> None:
            nonlocal latency
            with self.cancel_when_gone(scope), scope:
                try:
                    await self._peer.ping()
                    latency = trio.current_time() - sent_at
                except PeerClosed:
                    self._end()
            over.set()
            if scope.cancelled_caught and not self._gone.is_set():
                await self.abort("the peer did not answer a ping")

        self._start(wait_for_pong)
        try:
            await over.wait()
        except trio.Cancelled:
            scope.deadline = trio.current_time() + (self._settings.send_timeout or inf)
            raise
        if latency is None:
            await self._raise_end()
        self._latency = latency
        return latency

    # Ending

    async def aclose(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        close_payload(code, reason)
        if self._closed_here:
            await trio.lowlevel.checkpoint()
            return
        self._closed_here = True
        self._inbox.wake()
        done = False
        try:
            with trio.move_on_after(self._settings.close_timeout or inf):
                await trio.lowlevel.checkpoint()
                await self._outbox.flush()
                await self._peer.aclose(code, reason)
                done = True
        finally:
            if done:
                self._end()
            else:
                await self.abort("the peer did not answer our Close")

    async def abort(self, why: str) -> None:
        """Drop the connection without a Close; it is reported as 1006, with ``why``."""
        self._aborted = CloseReason(CloseCode.ABNORMAL, why)
        self._end()
        with trio.CancelScope() as scope:
            scope.cancel()  # trio-websocket drops a connection whose closing handshake is cancelled
            await self._peer.aclose()

    async def wait_closed(self) -> None:
        await self._gone.wait()

    @contextmanager
    def cancel_when_gone(self, scope: trio.CancelScope) -> Iterator[None]:
        if self._gone.is_set():
            scope.cancel()
        self._scopes.add(scope)
        try:
            yield
        finally:
            self._scopes.discard(scope)

    def _end(self) -> None:
        """The peer is gone: cancel what works for it. Messages may remain to be received."""
        self._gone.set()
        for scope in self._scopes:
            scope.cancel()
        self._outbox.fail()
        self._inbox.wake()

    def _raise_if_closed_here(self) -> None:
        if self._closed_here:
            raise trio.ClosedResourceError("this side has closed the connection")

    def _raise_if_over(self) -> None:
        self._raise_if_closed_here()
        if self._gone.is_set():
            raise ConnectionClosed(self.close_reason or _VANISHED, self)

    async def _raise_end(self) -> NoReturn:
        """Raise the end, or the caller's own cancellation, which may be what ended the connection."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._raise_if_closed_here()
        raise ConnectionClosed(self.close_reason or _VANISHED, self)

    def _start(self, task: Task) -> None:
        assert self._nursery is not None
        try:
            self._nursery.start_soon(task)
        except RuntimeError:  # the nursery has ended, and with it trio-websocket's reader
            self._end()
            raise ConnectionClosed(self.close_reason or _VANISHED, self) from None
