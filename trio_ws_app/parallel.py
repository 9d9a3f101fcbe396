"""Consumer and producer in parallel: the first exit cancels the siblings, and all have cleaned up.

``duplex`` is what replaces ``gather`` and ``wait`` + ``cancel``.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from enum import StrEnum
from functools import partial
from math import inf
from types import AsyncGeneratorType
from typing import Any

import attrs
import trio
from trio.lowlevel import RaiseCancelT, checkpoint_if_cancelled

from .connection import Message
from .patterns import (
    AsyncConsumer,
    Channel,
    Consumer,
    Producer,
    call_inline,
    consumed,
    consumption,
    inline_consumption,
    is_async,
    production,
    production_within,
    received,
    send_all,
)
from .wire.connection import WireConnection
from .wire.waiting import Demand


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

    Parts run in tasks of their own where they need them, with copies of the caller's context variables.

    Raises:
        TypeError: neither ``consume`` nor ``produce`` was given.
    """
    consumers: list[Consumer] = _listed(consume)
    producers: list[Producer] = _listed(produce)
    if not consumers and not producers:
        raise TypeError("duplex needs consume=, produce=, or both")
    run = _Duplex(channel, bool(consumers))
    consumer = _in_turn(consumers) if consumers else None
    if isinstance(channel, WireConnection) and len(producers) == 1 and consumer:
        await _entered(channel, producers[0])
        if is_async(consumer):
            await run.with_consumer_on_demand(channel, consumer, producers[0])
        else:
            await run.in_one_task(channel, consumer, producers[0])
        return run.result()
    # This task would only wait: it takes one of the parts. That, and no coroutine between it and the part,
    # keeps an idle connection small.
    part = consumption(channel, consumer) if consumer else production(channel, producers.pop(0))
    async with trio.open_nursery() as nursery:
        run.scope = nursery.cancel_scope
        for producer in producers:
            nursery.start_soon(run.produce, production(channel, producer))
        try:
            cause = await part
        except Exception as error:
            run.failed(error)
        except BaseException as error:
            run.stopped(error)
        else:
            run.part_ended(Side.CONSUMER if consumer else Side.PRODUCER, cause)
    return run.result()


async def _entered(channel: WireConnection, producer: Producer) -> None:
    """Raises where no part may begin; then the producer, which was handed over all the same, is closed."""
    try:
        await checkpoint_if_cancelled()
        channel.check_free()
    except BaseException:
        if isinstance(producer, AsyncGeneratorType):
            await producer.aclose()
        raise


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def _in_turn(consumers: Sequence[Consumer]) -> Consumer:
    """One consumer that gives each message to all of ``consumers``."""
    if len(consumers) == 1:
        return consumers[0]
    if not any(is_async(consumer) for consumer in consumers):

        def all_inline(message: Message) -> None:
            for consumer in consumers:
                call_inline(consumer, message)

        return all_inline

    async def all_async(message: Message) -> None:
        for consumer in consumers:
            if is_async(consumer):
                await consumer(message)
            else:
                call_inline(consumer, message)

    return all_async


@attrs.define
class _Duplex:
    """The state that the parts of one ``duplex`` share."""

    channel: Channel
    has_consumer: bool
    scope: trio.CancelScope = attrs.field(init=False)
    exit: Exit | None = None
    errors: tuple[Exception, ...] = ()
    cancelled: BaseException | None = None
    interrupted: trio.Cancelled | None = None  # the producer, by what is not known yet
    raise_cancel: RaiseCancelT | None = None  # instead of an exception, from a consumer that only waited

    async def in_one_task(self, channel: WireConnection, consumer: Consumer, producer: Producer) -> None:
        """The connection calls the consumer, so the one producer needs no task of its own."""
        self.scope = trio.CancelScope()
        beside = partial(self.produce_beside, channel, producer)
        try:
            cause = await inline_consumption(channel, channel.consume_inline(consumer, beside, self.scope))
        except Exception as error:
            self.failed(error)
        else:
            self.part_ended(Side.CONSUMER, cause)

    async def produce_beside(self, channel: WireConnection, producer: Producer) -> bool:
        """Produce until the consumer ends; whether the consumer has to end now instead."""
        try:
            cause = await production_within(self.scope, channel, producer)
        except Exception as error:
            self.failed(error)
        else:
            self.part_ended(Side.PRODUCER, cause)
        return self.exit is not None or bool(self.errors)

    async def with_consumer_on_demand(
        self, channel: WireConnection, consumer: AsyncConsumer, producer: Producer
    ) -> None:
        """The one producer in this task; the consumer has one from the first message on.

        Until then only the connection knows of it, so where nothing is said there is one task.
        """
        async with trio.open_nursery() as nursery:
            self.scope = nursery.cancel_scope
            demand = Demand(channel, partial(nursery.start_soon, self.consume, channel, consumer))
            gone = trio.CancelScope()
            channel.add_gone_scope(gone)
            try:
                cause = None
                with gone:
                    try:
                        cause = await send_all(channel, producer)
                    except trio.Cancelled as error:
                        self.interrupted = error  # every block that it would pass costs
                if self.producer_stopped(gone):
                    pass
                elif cause is None and not gone.cancel_called:
                    self.ended(Side.PRODUCER, None)
                elif not demand.came:
                    demand.end()
                    self.exit = Exit(Side.CONSUMER, await received(channel, consumer))  # alone in the nursery
            except Exception as error:
                self.failed(error)
            except BaseException as error:
                self.stopped(error)
            finally:
                demand.end()
                channel.remove_gone_scope(gone)

    async def consume(self, channel: WireConnection, consumer: AsyncConsumer) -> None:
        """The consumer in a task of its own."""
        try:
            cause = await consumed(channel, consumer)
        except Exception as error:
            self.failed(error)
        except BaseException as error:
            self.stopped(error)
        else:
            if isinstance(cause, Exception):
                self.ended(Side.CONSUMER, cause)
            else:
                self.raise_cancel = cause
                self.stop_the_others()

    async def produce(self, producing: Coroutine[Any, Any, Exception | None]) -> None:
        """A producer in a task of its own."""
        try:
            cause = await producing
        except Exception as error:
            self.failed(error)
        except BaseException as error:
            self.stopped(error)
        else:
            self.part_ended(Side.PRODUCER, cause)

    def part_ended(self, side: Side, cause: Exception | None) -> None:
        if side is Side.CONSUMER or cause is None or not self.has_consumer:
            self.ended(side, cause)
        # Otherwise the peer is gone: the consumer finishes what has arrived, then ends everything.

    def ended(self, side: Side, cause: Exception | None) -> None:
        if self.exit is None:
            self.exit = Exit(side, cause)
        self.scope.cancel()

    def failed(self, error: Exception) -> None:
        self.errors += (error,)
        self.scope.cancel()

    def stopped(self, error: BaseException) -> None:
        """A part was cancelled, and so are the others. What is no cancellation goes its own way.

        A cancellation does not go through the nursery, which would describe it and wrap it in groups, for
        every connection of a server that ends.
        """
        if not _is_cancellation(error):
            raise error
        self.cancelled = error
        self.stop_the_others()

    def stop_the_others(self) -> None:
        """A part was cancelled, so the others are; mostly they are already."""
        if trio.current_effective_deadline() > -inf:
            self.scope.cancel()

    def producer_stopped(self, gone: trio.CancelScope) -> bool:
        """Whether the producer was cancelled, and not only by ``gone``, whose block has ended."""
        error, self.interrupted = self.interrupted, None
        if error is None or (gone.cancel_called and trio.current_effective_deadline() > -inf):
            return False
        self.stopped(error)
        return True

    def result(self) -> Exit:
        """How it ended; raises what the parts raised, or the cancellation before any part ended."""
        if self.errors:
            self.cancelled = None
            raise self.failure()
        if self.exit is not None:
            self.cancelled = None
            return self.exit
        if self.cancelled is None and self.raise_cancel is not None:
            self.raise_cancel()  # only the consumer was told, which had nothing to do and has ended
        raise self.take_cancelled()

    def take_cancelled(self) -> BaseException:
        """The cancellation; it knows of the frames that know of this, so nothing here may keep it."""
        error, self.cancelled = self.cancelled, None
        assert error is not None  # all parts are over
        return error

    def failure(self) -> Exception:
        """The error of the part that failed, or of all that did."""
        if len(self.errors) == 1:
            return self.errors[0]
        return ExceptionGroup("several parts of one duplex failed", self.errors)


def _is_cancellation(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1] is None
    return isinstance(error, trio.Cancelled)
