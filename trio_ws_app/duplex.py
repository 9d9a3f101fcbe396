"""Consumer and producer in parallel: the first exit cancels the siblings, and all have cleaned up.

``duplex`` is what replaces ``gather`` and ``wait`` + ``cancel``.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from functools import partial
from math import inf
from types import AsyncGeneratorType
from typing import Any

import attrs
import trio
from trio.lowlevel import checkpoint_if_cancelled

from .connection import Message
from .exits import Exit, Exits, Side
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
from .wire.waiting import Demand, Rest


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

    Parts run in tasks of their own where they need them, with copies of the caller's context variables. An
    async consumer beside one producer has a task while something is said: after a second without a message
    it ends, and the next message brings a new one, with a copy of the context variables of the one before.
    So a consumer must not keep what belongs to a task, such as a lock or a context variable's token, from
    one message to the next.

    Raises:
        TypeError: neither ``consume`` nor ``produce`` was given.
    """
    consumers: list[Consumer] = _listed(consume)
    producers: list[Producer] = _listed(produce)
    if not consumers and not producers:
        raise TypeError("duplex needs consume=, produce=, or both")
    run = _Duplex(bool(consumers))
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
class _Duplex(Exits):
    """The parts, run in as few tasks as will do."""

    demand: Demand = attrs.field(init=False)
    interrupted: trio.Cancelled | None = None  # the producer, by what is not known yet

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
        """The one producer in this task; the consumer has one while something is said.

        Else only the connection knows of it, so where nothing is said there is one task.
        """
        async with trio.open_nursery() as nursery:
            self.scope = nursery.cancel_scope
            start = partial(nursery.start_soon, self.consume, channel, consumer)
            self.demand = demand = Demand(channel, start)
            gone = trio.CancelScope()
            channel.add_gone_scope(gone)
            try:
                cause = None
                with gone:
                    try:
                        cause = await send_all(channel, producer)
                    except trio.Cancelled as error:
                        self.interrupted = error  # every block that it would pass costs
                if self.producer_stopped(channel.is_gone):
                    pass
                elif cause is None and not channel.is_gone:
                    self.ended(Side.PRODUCER, None)
                elif not channel.is_gone:
                    demand.begin()  # the peer may still say something, until it answers our goodbye
                elif not demand.met:
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
            cause = await consumed(channel, consumer, self.demand)
        except Exception as error:
            self.failed(error)
        except BaseException as error:
            self.stopped(error)
        else:
            if isinstance(cause, Exception):
                self.ended(Side.CONSUMER, cause)
            elif not isinstance(cause, Rest):
                self.raise_cancel = cause
                self.stop_the_others()

    def producer_stopped(self, gone: bool) -> bool:
        """Whether the producer was cancelled, and not only because the peer is ``gone``."""
        error, self.interrupted = self.interrupted, None
        if error is None or (gone and trio.current_effective_deadline() > -inf):
            return False
        self.cancelled = error
        if self.demand.met:
            self.stop_the_others()
        return True

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
