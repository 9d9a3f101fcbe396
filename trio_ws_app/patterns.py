"""Consumer and producer, on any channel: of messages, or of what else it carries."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
from contextlib import nullcontext
from types import AsyncGeneratorType
from typing import TypeVar, cast

import attrs
import trio

from .callbacks import in_place, is_async
from .connection import Connection, Message
from .errors import ConnectionClosed

Item = TypeVar("Item")
Channel = trio.abc.Channel[Item]
AsyncConsumer = Callable[[Item], Awaitable[object]]
InlineConsumer = Callable[[Item], object]
Consumer = AsyncConsumer[Item] | InlineConsumer[Item]
Producer = Callable[[], Awaitable[Item]] | AsyncIterable[Item]


async def consume(channel: Channel[Item], consumer: Consumer[Item]) -> None:
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
    await consumption(channel, consumer, Siblings())


@attrs.define(eq=False)
class Siblings:
    """What a part knows of the others of its duplex. One that runs alone has this for itself."""

    consuming: bool = False  # there is a consumer
    # A producer has begun; the consumer's first step comes before that.
    producing: bool = attrs.field(init=False, default=False)


def consumption(
    channel: Channel[Item], consumer: Consumer[Item], siblings: Siblings
) -> Coroutine[object, object, Exception]:
    """As ``consume``; returns what told of the channel's end.

    Once one of the ``siblings`` is producing, this side may close the channel: that is a way to end, not a
    misuse.
    """
    if isinstance(channel, Connection) and not is_async(consumer):
        return _consume_inline(channel, cast(InlineConsumer[Message], consumer))
    return _receive_all(channel, as_async(consumer), siblings)


async def _consume_inline(channel: Connection, consumer: InlineConsumer[Message]) -> Exception:
    try:
        await channel.consume_inline(consumer)
    except ConnectionClosed as error:
        return _own_end(channel, error)
    return _known_end(channel)


async def _receive_all(
    channel: Channel[Item], consumer: AsyncConsumer[Item], siblings: Siblings
) -> Exception:
    begun = False
    while True:
        try:
            message = await channel.receive()
        except trio.EndOfChannel as error:
            return error
        except trio.ClosedResourceError as error:
            if begun or siblings.producing:
                return error  # a sibling has closed it, or the consumer
            raise
        begun = True
        try:
            await consumer(message)
        except ConnectionClosed as error:
            return _own_end(channel, error)
        del message  # it may be large, and the next one far off


def as_async(consumer: Consumer[Item]) -> AsyncConsumer[Item]:
    """An async consumer itself; of a plain function, one that calls it in place, in a context of its own."""
    if is_async(consumer):
        return consumer
    call = in_place(consumer, "pass the async function itself, or a plain function")

    async def call_inline(message: Item) -> None:
        call(message)

    return call_inline


def _own_end(channel: object, error: ConnectionClosed) -> ConnectionClosed:
    """``error`` if it tells of this channel's end; raises it if it tells of another connection's."""
    if isinstance(channel, Connection):
        unknown = error.connection is None and channel.close_reason is not None
        if error.connection is not channel and not unknown:
            raise error
    return error


def _known_end(channel: Connection) -> Exception:
    """What a part is told that did not learn of the channel's end by an exception."""
    if channel.close_reason is not None:
        return ConnectionClosed(channel.close_reason, channel)
    return trio.ClosedResourceError("this side has closed the connection")


async def produce(channel: Channel[Item], producer: Producer[Item]) -> None:
    """Send what ``producer`` gives: an async callable, called again and again, or an async iterable.

    Returns when the iterable is exhausted, or when the peer is gone: the producer is cancelled at once
    then, also while it is idle (G9; on channels that cannot tell, at its next send). An async
    generator is closed, its ``finally`` included, before this returns, also when this is cancelled.

    What the producer raises comes out as it is.
    """
    await production(channel, producer, Siblings())


async def production(
    channel: Channel[Item], producer: Producer[Item], siblings: Siblings
) -> Exception | None:
    """As ``produce``; returns what told of the channel's end, None if the iterable is exhausted.

    Beside a consumer, that is also this side's own closing, as in ``consumption``.
    """
    cause: Exception | None = None
    scope = trio.CancelScope()
    gone = channel.cancel_when_gone(scope) if isinstance(channel, Connection) else nullcontext()
    with scope, gone:  # the scope is cancelled when the peer is gone, if the channel can tell (G9)
        if isinstance(producer, AsyncIterable):
            cause = await _send_all(channel, producer, siblings)
        else:
            while cause is None:
                cause = await _send(channel, await producer(), siblings)
    if cause is None and scope.cancel_called:
        # Only a connection cancels the scope; an outer cancellation does not end up here.
        assert isinstance(channel, Connection)
        cause = _known_end(channel)
    return cause


async def _send_all(
    channel: Channel[Item], messages: AsyncIterable[Item], siblings: Siblings
) -> Exception | None:
    try:
        async for message in messages:
            if ended := await _send(channel, message, siblings):
                return ended
    finally:
        if isinstance(messages, AsyncGeneratorType):
            await messages.aclose()  # if it was left half way: not by the garbage collector
    return None


async def _send(channel: Channel[Item], message: Item, siblings: Siblings) -> Exception | None:
    try:
        await channel.send(message)
    except trio.BrokenResourceError as error:
        return error
    except trio.ClosedResourceError as error:
        if siblings.consuming:
            return error  # the consumer knows whether that is an end or a misuse
        raise
    return None
