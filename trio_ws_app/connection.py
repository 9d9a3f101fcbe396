"""What every connection can do, whatever carries its bytes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterable, Callable
from contextlib import AbstractContextManager
from typing import TypeVar, overload

import trio

from .callbacks import in_own_context, refuse_coroutine
from .errors import CloseCode, CloseReason, ConnectionClosed, not_a_message
from .json_codec import JsonCodec, unchanged
from .request import Request

Message = str | bytes
"""A text or a binary message (RFC 6455, section 5.6)."""
Value = TypeVar("Value")

PLAIN_JSON = JsonCodec()


def as_message(thing: object) -> Message:
    """A message as it is, a bytes-like object as bytes.

    Raises TypeError for anything else, and ValueError for a text that UTF-8 cannot carry.
    """
    if isinstance(thing, str):
        thing.encode()
        return thing
    if isinstance(thing, bytes):
        return thing
    if isinstance(thing, bytearray | memoryview):
        return bytes(thing)
    raise not_a_message(thing)


class Connection(trio.abc.Channel[Message]):
    """One WebSocket connection: a channel of ``str`` (text) and ``bytes`` (binary) messages.

    The server hands one to each handler; ``connect`` and ``from_trio_websocket`` make others. Every
    method may be called from any task of the connection's nursery; one task at a time may receive.

    ``id`` names the connection in logs, ``remote`` is the peer's address as text, ``request`` is the
    request that opened it, ``subprotocol`` the negotiated one or None.
    """

    __slots__ = ()

    id: str
    remote: str
    request: Request
    subprotocol: str | None

    @property
    @abstractmethod
    def latency(self) -> float | None:
        """The last measured round trip in seconds, or None."""

    @property
    @abstractmethod
    def close_reason(self) -> CloseReason | None:
        """How the connection ended, or None while it is open."""

    @abstractmethod
    async def receive(self) -> Message:
        """Wait for the next message and return it.

        Messages that arrived before the peer's Close are still delivered after it. When cancelled,
        no message is lost or repeated (G3).

        Raises:
            ConnectionClosed: the connection is over and every message has been delivered.
            trio.BusyResourceError: another task is receiving.
            trio.ClosedResourceError: this side has called ``aclose``.
        """

    @abstractmethod
    async def send(self, message: Message) -> None:
        """Send one message, waiting while the peer is behind.

        The wait comes before the message is accepted: if this is cancelled nothing of the message is
        sent, if it returns the whole message is on its way (G2).

        Raises:
            ConnectionClosed: the connection is over.
            trio.ClosedResourceError: this side has called ``aclose``.
            TypeError: ``message`` is neither str nor bytes-like.
            ValueError: ``message`` holds lone surrogates, which UTF-8 cannot carry.
        """

    @abstractmethod
    def send_nowait(self, message: Message) -> None:
        """Send one message without waiting.

        Raises:
            trio.WouldBlock: ``max_queue_bytes`` wait for the peer already; nothing was sent.
            ConnectionClosed, trio.ClosedResourceError, TypeError, ValueError: as ``send`` does.
        """

    @abstractmethod
    async def send_stream(self, fragments: AsyncIterable[str] | AsyncIterable[bytes]) -> None:
        """Send one long message piece by piece (RFC 6455, section 5.4).

        Other sends wait until it is over; control frames go between the fragments. When the iterable
        fails or this is cancelled after the first fragment, the message cannot be completed and the
        connection is closed with 1011, since half a message must not look like a whole one.
        """

    @abstractmethod
    async def ping(self) -> float:
        """Send a ping, wait for its pong, and return the seconds between them.

        Raises:
            ConnectionClosed: the connection ended before the pong came.
        """

    @abstractmethod
    async def aclose(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Send a Close, wait up to ``close_timeout`` for the peer's Close, and end the connection.

        Closing twice does nothing. When cancelled, the connection is ended at once and
        ``trio.Cancelled`` is raised.

        Raises:
            ValueError: ``code`` may not be sent (RFC 6455, section 7.4) or ``reason`` is over 123 bytes.
        """

    @abstractmethod
    async def wait_closed(self) -> None:
        """Wait until the peer is gone or this side has closed; messages may remain to be received."""

    @abstractmethod
    def cancel_when_gone(self, scope: trio.CancelScope) -> AbstractContextManager[None]:
        """Within the block, cancel ``scope`` as soon as the peer is gone (G9).

        For what works *for* the peer and learns nothing by receiving: a producer, a subscription.
        """

    @property
    def json(self) -> JsonCodec:
        """What ``receive_json`` and ``send_json`` use."""
        return PLAIN_JSON

    @overload
    async def receive_json(self) -> object: ...
    @overload
    async def receive_json(self, convert: Callable[[object], Value]) -> Value: ...
    async def receive_json(self, convert: Callable[[object], object] = unchanged) -> object:
        """Wait for the next message, and return what ``convert`` makes of its JSON.

        Raises:
            InvalidMessage: it is no JSON, or ``convert`` has raised an exception. The connection is usable.
            ConnectionClosed, trio.BusyResourceError, trio.ClosedResourceError: as ``receive`` does.
        """
        return self.json.decode(await self.receive(), convert)

    async def send_json(self, value: object) -> None:
        """Send ``value`` as JSON in one text message, as ``send`` does.

        Raises what it does, and TypeError or ValueError for a value that can't be encoded.
        """
        await self.send(self.json.encode(value))

    async def consume_inline(self, consumer: Callable[[Message], object]) -> None:
        """Call ``consumer(message)`` for every message until the connection is over.

        Cancelling stops the calls; messages that were not consumed stay to be received.
        """
        call = in_own_context(consumer)
        async for message in self:
            refuse_coroutine(consumer, call(message), "pass the async function itself, or a plain function")

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except ConnectionClosed:
            raise StopAsyncIteration from None
