"""The connection behind ``from_trio_websocket`` and ``connect``."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import trio
import trio_websocket

from ..connection import Connection, Message
from ..errors import CloseCode, CloseReason, ConnectionClosed, already_receiving, not_a_message
from ..protocol.closing import close_payload
from ..request import Request
from ..settings import Settings
from .adapter_queues import Inbox, Outbox, PendingPing, Task

_VANISHED = CloseReason(CloseCode.ABNORMAL)


class AdaptedConnection(Connection):
    """A trio-websocket connection as ours. ``nursery`` runs its tasks; None: the connection is over."""

    __slots__ = (
        "_broken_off",
        "_closed_here",
        "_gone",
        "_inbox",
        "_latency",
        "_nursery",
        "_outbox",
        "_peer",
        "_reading_ahead",
        "_receiving",
        "_remote",
        "_request",
        "_scopes",
        "_settings",
    )

    def __init__(
        self,
        peer: trio_websocket.WebSocketConnection,
        nursery: trio.Nursery | None,
        *,
        remote: str,
        request: Request,
        settings: Settings,
    ) -> None:
        self._peer = peer
        self._nursery = nursery
        self._remote = remote
        self._request = request
        self._settings = settings
        self._inbox = Inbox(settings.max_inbox_bytes)
        self._outbox = Outbox(settings.max_queue_bytes, self._write, self._start)
        self._reading_ahead = False
        self._receiving = False
        self._closed_here = False
        self._broken_off: CloseReason | None = None
        self._latency: float | None = None
        self._gone = trio.Event()
        self._scopes: set[trio.CancelScope] = set()
        if nursery is None:
            self._end()
        else:
            self._read_on()

    @property
    def id(self) -> str:
        return str(self._peer)

    @property
    def remote(self) -> str:
        return self._remote

    @property
    def request(self) -> Request:
        return self._request

    @property
    def subprotocol(self) -> str | None:
        return self._peer.subprotocol

    @property
    def latency(self) -> float | None:
        return self._latency

    @property
    def close_reason(self) -> CloseReason | None:
        if self._broken_off is not None:
            return self._broken_off
        closed = self._peer.closed
        if closed is not None:
            return CloseReason(int(closed.code), closed.reason or "")
        return _VANISHED if self._gone.is_set() else None

    # Receiving

    async def receive(self) -> Message:
        if self._receiving:
            raise already_receiving()
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            return await self._next_message()
        finally:
            self._receiving = False

    async def _next_message(self) -> Message:
        self._raise_if_closed_here()
        while not self._inbox:
            if self._reading_ahead:
                await self._inbox.wait()
            else:
                self._inbox.put(await self._last_message())
            self._raise_if_closed_here()
        message = self._inbox.take()
        if not self._gone.is_set():
            self._read_on()
        return message

    async def _last_message(self) -> Message:
        """One of the messages that trio-websocket still holds when the connection is over."""
        try:
            return await self._peer.get_message()
        except trio_websocket.ConnectionClosed:
            self._end()
        return await self._raise_end()

    @property
    def is_reading(self) -> bool:
        """Whether something is received from the peer now: not while the inbox is full."""
        return self._reading_ahead

    def _read_on(self) -> None:
        if not self._reading_ahead and self._inbox.has_room:
            self._start(self._read_ahead)
            self._reading_ahead = True

    async def _read_ahead(self) -> None:
        """Receive until the inbox is full or the connection is over.

        It does not wait for room in the inbox: trio-websocket could end meanwhile without waking it,
        and its nursery would then stay open.
        """
        try:
            while self._inbox.has_room:
                self._inbox.put(await self._peer.get_message())
        except trio_websocket.ConnectionClosed:
            self._end()
        except trio.Cancelled:
            self._end()
            raise
        finally:
            self._reading_ahead = False
            self._inbox.wake()

    # Sending

    async def send(self, message: Message) -> None:
        message = _checked(message)
        await trio.lowlevel.checkpoint_if_cancelled()
        self._raise_if_over()
        if not await self._outbox.deliver(message):
            await self._raise_end()

    def send_nowait(self, message: Message) -> None:
        message = _checked(message)
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

    async def _write(self, message: Message) -> bool:
        try:
            await self._peer.send_message(message)
        except trio_websocket.ConnectionClosed:
            self._end()
            return False
        return True

    async def ping(self) -> float:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._raise_if_over()
        ping = PendingPing()
        self._start(lambda: self._ping(ping))
        try:
            await ping.settled.wait()
        except trio.Cancelled:
            ping.give_up_after(_seconds(self._settings.send_timeout))
            raise
        if ping.seconds is None:
            await self._raise_end()
        self._latency = ping.seconds
        return ping.seconds

    async def _ping(self, ping: PendingPing) -> None:
        with ping.scope, self.cancel_when_gone(ping.scope):
            started = trio.current_time()
            try:
                await self._peer.ping()
                ping.seconds = trio.current_time() - started
            except trio_websocket.ConnectionClosed:
                self._end()
        ping.settled.set()
        if ping.scope.cancelled_caught and not self._gone.is_set():
            await self.abort("the peer did not answer a ping")

    # Ending

    async def aclose(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        close_payload(code, reason)
        if self._closed_here:
            await trio.lowlevel.checkpoint()
            return
        self._closed_here = True
        self._inbox.wake()
        said = False
        try:
            with trio.move_on_after(_seconds(self._settings.close_timeout)):
                await trio.lowlevel.checkpoint()
                await self._outbox.flush()
                await self._peer.aclose(code, reason)
                said = True
        finally:
            if said:
                self._end()
            else:
                await self.abort("the peer did not answer our Close")

    async def abort(self, why: str) -> None:
        """Drop the connection without a goodbye; it is reported as 1006, with ``why``."""
        self._broken_off = CloseReason(CloseCode.ABNORMAL, why)
        self._end()
        with trio.CancelScope() as scope:
            scope.cancel()  # trio-websocket drops a connection whose goodbye is cancelled
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
        """The peer is gone: tell everybody who works for it. Messages may remain to be received."""
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
            raise ConnectionClosed(self.close_reason or _VANISHED)

    async def _raise_end(self) -> NoReturn:
        """Tell a caller that waited of the end, or of its own cancellation, which may be what ended it."""
        await trio.lowlevel.checkpoint_if_cancelled()
        self._raise_if_closed_here()
        raise ConnectionClosed(self.close_reason or _VANISHED)

    def _start(self, task: Task) -> None:
        assert self._nursery is not None
        try:
            self._nursery.start_soon(task)
        except RuntimeError:  # the nursery has ended, and with it trio-websocket's reader
            self._end()
            raise ConnectionClosed(self.close_reason or _VANISHED) from None


def _seconds(timeout: float | None) -> float:
    return math.inf if timeout is None else timeout


def _checked(message: Message) -> Message:
    if isinstance(message, (str, bytes)):
        return message
    if isinstance(message, (bytearray, memoryview)):
        return bytes(message)
    raise not_a_message(message)
