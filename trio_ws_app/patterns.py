"""Consumer and producer, on any channel of messages."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
from functools import partial
from types import AsyncGeneratorType
from typing import Any, TypeGuard

import trio
from trio.lowlevel import RaiseCancelT

from .connection import Connection, Message
from .errors import ConnectionClosed
from .wire.connection import WireConnection
from .wire.waiting import Demand, Rest

Channel = trio.abc.Channel[Message]
AsyncConsumer = Callable[[Message], Awaitable[object]]
InlineConsumer = Callable[[Message], object]
Consumer = AsyncConsumer | InlineConsumer
Producer = Callable[[], Awaitable[Message]] | AsyncIterable[Message]


def is_async(consumer: Consumer) -> TypeGuard[AsyncConsumer]:
    """Whether ``consumer`` is to be awaited; any other is called in place."""
    function = consumer
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object with an async __call__
    )


async def consume(channel: Channel, consumer: Consumer) -> None:
    """Call ``consumer(message)`` for every message; return when the channel has ended.

    An async consumer is awaited. A plain function is called in place, without a task switch; it cannot
    wait, answers with ``send_nowait``, and is called only while the peer takes its answers. It sees a
    copy of the caller's context variables, and runs between tasks: there is no current task to ask for.

    What the consumer raises comes out as it is, but for the channel's own end, which is no error.
    When cancelled, messages that were not given to the consumer stay in the channel.

    Raises:
        trio.BusyResourceError: another task is receiving.
        TypeError: a plain function returned a coroutine.
    """
    await consumption(channel, consumer)


def consumption(channel: Channel, consumer: Consumer) -> Coroutine[Any, Any, Exception]:
    """As ``consume``; the coroutine returns what told of the end."""
    if isinstance(channel, Connection) and not is_async(consumer):
        return inline_consumption(channel, channel.consume_inline(consumer))
    return received(channel, consumer, begun=False)


async def inline_consumption(channel: Connection, consuming: Coroutine[Any, Any, None]) -> Exception:
    """Await ``consuming``, which is the channel's ``consume_inline``; return what told of the end."""
    try:
        await consuming
    except ConnectionClosed as error:
        return _own_end(channel, error)
    return _known_end(channel)


async def received(channel: Channel, consumer: Consumer, begun: bool = True) -> Exception:
    """Receive until the end, and return what told of it; ``begun``: the channel was not closed at first."""
    awaited = is_async(consumer)
    while True:
        try:
            message = await channel.receive()
        except trio.EndOfChannel as error:
            return error
        except trio.ClosedResourceError as error:
            if begun:
                return error  # closed meanwhile by the consumer or a sibling, which is a way to end
            raise
        begun = True
        try:
            if awaited:
                await consumer(message)  # type: ignore[misc]  # is_async has looked
            else:
                call_inline(consumer, message)
        except ConnectionClosed as error:
            return _own_end(channel, error)


async def consumed(
    connection: WireConnection, consumer: AsyncConsumer, demand: Demand
) -> Exception | RaiseCancelT | Rest:
    """As ``received``; a cancellation of the wait for a message is returned, for the caller to raise.

    Or ``Rest``, where nothing has come for a while; then ``demand`` waits for the next message.
    """
    while True:
        try:
            told = await demand.wait_message()
        except (trio.EndOfChannel, trio.ClosedResourceError) as error:
            return error
        if told is not None:
            return told
        try:
            await consumer(connection.take())
        except ConnectionClosed as error:
            return _own_end(connection, error)


def call_inline(consumer: InlineConsumer, message: Message) -> None:
    """Call a plain function with a message; raises TypeError when it is a coroutine function after all."""
    result = consumer(message)
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(f"{consumer!r} returned a coroutine: pass the async function itself")


def _own_end(channel: Channel, error: ConnectionClosed) -> ConnectionClosed:
    """``error`` when it tells of this channel's end; raises it when it is another connection's."""
    if isinstance(channel, Connection) and channel.close_reason is None:
        raise error
    return error


def _known_end(channel: Connection) -> Exception:
    """What somebody is told who did not learn of the channel's end by an exception."""
    if channel.close_reason is not None:
        return ConnectionClosed(channel.close_reason, channel)
    return trio.ClosedResourceError("this side has closed the connection")


async def produce(channel: Channel, producer: Producer) -> None:
    """Send what ``producer`` gives: an async callable, called again and again, or an async iterable.

    Returns when the iterable is exhausted, or when the peer is gone: the producer is cancelled at once
    then, also while it is idle (G9; on channels that cannot tell, at its next send). An async
    generator is closed, its ``finally`` included, before this returns, also when this is cancelled.

    What the producer raises comes out as it is.
    """
    await production(channel, producer)


def production(channel: Channel, producer: Producer) -> Coroutine[Any, Any, Exception | None]:
    """As ``produce``; the coroutine returns what told of the peer's end, None for an exhausted producer."""
    if isinstance(channel, Connection):
        return production_within(trio.CancelScope(), channel, producer)
    return send_all(channel, producer)


async def production_within(
    scope: trio.CancelScope, channel: Connection, producer: Producer
) -> Exception | None:
    """As ``production``, within ``scope``: cancelling it is one more way to end the producer."""
    with scope, channel.cancel_when_gone(scope):
        if isinstance(producer, AsyncIterable):
            ended = await send_all(channel, producer)
        else:  # here as well as in send_all: an idle producer costs one coroutine less
            ended = None
            while ended is None:
                ended = await _send(channel, await producer())
        if ended is not None or not scope.cancel_called:
            return ended
    # Here only when cancelled: by the scope itself, since an outer cancellation does not end up here.
    return _known_end(channel)


async def send_all(channel: Channel, producer: Producer) -> Exception | None:
    """Send until the producer is exhausted, or return what told of the peer's end."""
    if not isinstance(producer, AsyncIterable):
        while True:
            if ended := await _send(channel, await producer()):
                return ended
    async for message in producer:
        left = True
        try:
            ended = await _send(channel, message)
            left = ended is not None
        finally:
            # Only a generator that has not ended by itself is to be closed, and a cancellation that comes
            # out of it passes no block. It is not left to the garbage collector.
            if left and isinstance(producer, AsyncGeneratorType):
                await producer.aclose()
        if ended is not None:
            return ended
    return None


async def _send(channel: Channel, message: Message) -> Exception | None:
    try:
        await channel.send(message)
    except trio.BrokenResourceError as error:
        return error
    return None
