"""Consumer, producer, and both in parallel, on any channel of messages.

``duplex`` is what replaces ``gather`` and ``wait`` + ``cancel``: the first exit cancels the siblings,
and it returns after they have cleaned up.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, nullcontext
from enum import StrEnum
from functools import partial
from types import AsyncGeneratorType
from typing import Any

import attrs
import trio

from .connection import Connection, Message
from .errors import ConnectionClosed

Channel = trio.abc.Channel[Message]
AsyncConsumer = Callable[[Message], Awaitable[object]]
InlineConsumer = Callable[[Message], object]
Consumer = AsyncConsumer | InlineConsumer
Producer = Callable[[], Awaitable[Message]] | AsyncIterable[Message]


class Side(StrEnum):
    """Which half of a ``duplex``."""

    CONSUMER = "consumer"
    PRODUCER = "producer"


@attrs.frozen
class Exit:
    """How a ``duplex`` ended without an error.

    ``first`` is the side that ended first. ``cause`` is what ended it: the ``ConnectionClosed`` (from
    other channels, the ``trio.EndOfChannel`` or ``trio.BrokenResourceError``) that told it of the end,
    or None when it returned or was exhausted by itself.
    """

    first: Side
    cause: Exception | None


def _is_async(consumer: Consumer) -> bool:
    function = consumer
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  # an object with an async __call__
    )


async def consume(channel: Channel, consumer: Consumer) -> None:
    """Call ``consumer(message)`` for every message; return when the channel has ended.

    An async consumer is awaited. A plain function is called in place, without a task switch; it cannot
    wait, answers with ``send_nowait``, and is called only while the peer takes its answers.

    What the consumer raises comes out as it is, but for the channel's own end, which is no error.
    When cancelled, messages that were not given to the consumer stay in the channel.

    Raises:
        trio.BusyResourceError: another task is receiving.
        TypeError: a plain function returned a coroutine.
    """
    await _consumption(channel, consumer)


def _consumption(channel: Channel, consumer: Consumer) -> Coroutine[Any, Any, Exception]:
    """As ``consume``; the coroutine returns what told of the end."""
    if isinstance(channel, Connection) and not _is_async(consumer):
        return _receive_inline(channel, consumer)
    return _receive_all(channel, consumer)


async def _receive_inline(channel: Connection, consumer: InlineConsumer) -> Exception:
    try:
        await channel.consume_inline(consumer)
    except ConnectionClosed as error:
        return _own_end(channel, error)
    if channel.close_reason is not None:
        return ConnectionClosed(channel.close_reason)
    return trio.ClosedResourceError("this side has closed the connection")


async def _receive_all(channel: Channel, consumer: Consumer) -> Exception:
    is_async = _is_async(consumer)
    begun = False
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
            if is_async:
                await consumer(message)  # type: ignore[misc]  # _is_async has looked
            else:
                _call_inline(consumer, message)
        except ConnectionClosed as error:
            return _own_end(channel, error)


def _call_inline(consumer: InlineConsumer, message: Message) -> None:
    result = consumer(message)
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(f"{consumer!r} returned a coroutine: pass the async function itself")


def _own_end(channel: Channel, error: ConnectionClosed) -> ConnectionClosed:
    """``error`` when it tells of this channel's end; raises it when it is another connection's."""
    if isinstance(channel, Connection) and channel.close_reason is None:
        raise error
    return error


async def produce(channel: Channel, producer: Producer) -> None:
    """Send what ``producer`` gives: an async callable, called again and again, or an async iterable.

    Returns when the iterable is exhausted, or when the peer is gone: the producer is cancelled at once
    then, also while it is idle (G9; on channels that cannot tell, at its next send). An async
    generator is closed, its ``finally`` included, before this returns, also when this is cancelled.

    What the producer raises comes out as it is.
    """
    await _production(channel, producer)


def _production(channel: Channel, producer: Producer) -> Coroutine[Any, Any, Exception | None]:
    """As ``produce``; the coroutine returns what told of the peer's end, None for an exhausted producer."""
    if isinstance(channel, Connection):
        return _send_while_there(channel, producer)
    return _send_all(channel, producer)


async def _send_while_there(channel: Connection, producer: Producer) -> Exception | None:
    with trio.CancelScope() as scope, channel.cancel_when_gone(scope):
        if isinstance(producer, AsyncIterable):
            return await _send_all(channel, producer)
        while True:  # here as well as in _send_all: an idle producer costs one coroutine less
            if ended := await _send(channel, await producer()):
                return ended
    # Here only when cancelled: by the scope itself, since an outer cancellation does not end up here.
    if channel.close_reason is not None:
        return ConnectionClosed(channel.close_reason)
    return trio.ClosedResourceError("this side has closed the connection")


async def _send_all(channel: Channel, producer: Producer) -> Exception | None:
    if not isinstance(producer, AsyncIterable):
        while True:
            if ended := await _send(channel, await producer()):
                return ended
    # A generator that is left half way must be closed here, not by the garbage collector.
    closing = aclosing(producer) if isinstance(producer, AsyncGeneratorType) else nullcontext()
    async with closing:
        async for message in producer:
            if ended := await _send(channel, message):
                return ended
    return None


async def _send(channel: Channel, message: Message) -> Exception | None:
    try:
        await channel.send(message)
    except trio.BrokenResourceError as error:
        return error
    return None


async def duplex(
    channel: Channel,
    *,
    consume: Consumer | Sequence[Consumer] | None = None,
    produce: Producer | Sequence[Producer] | None = None,
) -> Exit:
    """Run consumers and producers in parallel; when one ends, cancel the others and wait for them (G1).

    Several consumers share the messages: each message goes to every one of them, in turn. When the
    peer is gone, producers are cancelled at once, consumers first finish what had arrived.

    Returns after every ``finally`` block has run. One error comes out as itself, several as one
    ExceptionGroup; the peer's goodbye is no error. When cancelled, all of them are, and are waited for.

    Raises:
        TypeError: neither ``consume`` nor ``produce`` was given.
    """
    consumers: list[Consumer] = _listed(consume)
    producers: list[Producer] = _listed(produce)
    if not consumers and not producers:
        raise TypeError("duplex needs consume=, produce=, or both")
    run = _Duplex(channel, bool(consumers))
    try:
        async with trio.open_nursery() as nursery:
            run.scope = nursery.cancel_scope
            for producer in producers if consumers else producers[1:]:
                nursery.start_soon(run.produce, producer)
            # The parent task would only wait: it takes one of the parts, which saves a task a connection.
            if consumers:
                try:
                    cause = await _consumption(
                        channel, consumers[0] if len(consumers) == 1 else _in_turn(consumers)
                    )
                except Exception as error:
                    run.failed(error)
                else:
                    run.ended(Side.CONSUMER, cause)
            else:
                await run.produce(producers[0])
    except BaseException as error:
        # A part had failed before the cancellation came: its error must not get lost.
        if run.errors and _is_cancellation(error):
            raise run.failure() from None
        raise
    return run.result()


def _is_cancellation(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def _in_turn(consumers: Sequence[Consumer]) -> Consumer:
    """One consumer that gives each message to all of ``consumers``."""
    if not any(_is_async(consumer) for consumer in consumers):

        def all_inline(message: Message) -> None:
            for consumer in consumers:
                _call_inline(consumer, message)

        return all_inline

    async def all_async(message: Message) -> None:
        for consumer in consumers:
            if _is_async(consumer):
                await consumer(message)  # type: ignore[misc]  # _is_async has looked
            else:
                _call_inline(consumer, message)

    return all_async


@attrs.define
class _Duplex:
    """The state that the parts of one ``duplex`` share."""

    channel: Channel
    has_consumer: bool
    scope: trio.CancelScope = attrs.field(init=False)
    exit: Exit | None = None
    errors: tuple[Exception, ...] = ()

    async def produce(self, producer: Producer) -> None:
        try:
            cause = await _production(self.channel, producer)
        except Exception as error:
            self.failed(error)
            return
        if cause is None or not self.has_consumer:
            self.ended(Side.PRODUCER, cause)
        # Otherwise the peer is gone: the consumer finishes what has arrived, then ends everything.

    def ended(self, side: Side, cause: Exception | None) -> None:
        if self.exit is None:
            self.exit = Exit(side, cause)
        self.scope.cancel()

    def failed(self, error: Exception) -> None:
        self.errors += (error,)
        self.scope.cancel()

    def failure(self) -> Exception:
        """The error of the part that failed, or of all that did."""
        if len(self.errors) == 1:
            return self.errors[0]
        return ExceptionGroup("several parts of one duplex failed", self.errors)

    def result(self) -> Exit:
        if self.errors:
            raise self.failure()
        assert self.exit is not None  # the nursery ends only after a part has ended
        return self.exit
