"""Consumer and producer in parallel: the first exit cancels the siblings, and all have cleaned up.

``duplex`` is what replaces ``gather`` and ``wait`` + ``cancel``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from enum import StrEnum
from typing import Any

import attrs
import trio

from .connection import Message
from .patterns import Channel, Consumer, Producer, call_inline, consumption, is_async, production


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

    Each part is one task from its beginning to its end: the consumers in the caller's, if there are any,
    each producer in one of its own. Returns after every ``finally`` block has run. One error comes out as
    itself, several as one ExceptionGroup; the peer's goodbye is no error. When cancelled, all parts are,
    and are waited for.

    Raises:
        TypeError: neither ``consume`` nor ``produce`` was given.
    """
    consumers: list[Consumer] = _listed(consume)
    producers: list[Producer] = _listed(produce)
    if not (consumers or producers):
        raise TypeError("duplex needs consume=, produce=, or both")
    parts = _Parts(has_consumer=bool(consumers))
    work: list[tuple[Side, Awaitable[Exception | None]]] = []
    if consumers:
        work.append((Side.CONSUMER, consumption(channel, _in_turn(consumers), parts.has_producers)))
    work += [(Side.PRODUCER, production(channel, producer)) for producer in producers]
    return await parts.run(work)


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def _in_turn(consumers: list[Consumer]) -> Consumer:
    """One consumer that gives each message to all of ``consumers``."""
    if len(consumers) == 1:
        return consumers[0]

    async def give_to_all(message: Message) -> None:
        for consumer in consumers:
            await (consumer(message) if is_async(consumer) else call_inline(consumer, message))

    return give_to_all


@attrs.define
class _Parts:
    """The parts of one duplex, and how they have ended so far."""

    has_consumer: bool
    scope: trio.CancelScope = attrs.field(init=False)
    exit: Exit | None = None
    errors: list[BaseException] = attrs.field(factory=list)
    cancelled: list[BaseException] = attrs.field(factory=list)
    _producing: bool = False

    def has_producers(self) -> bool:
        """Whether a producer has begun; the consumer's first step comes before that."""
        return self._producing

    async def run(self, parts: list[tuple[Side, Awaitable[Exception | None]]]) -> Exit:
        """Run the first part in this task, the others in tasks of their own."""
        try:
            async with trio.open_nursery() as nursery:
                self.scope = nursery.cancel_scope
                first, *others = parts
                for side, part in others:
                    nursery.start_soon(self._run_part, side, part)
                await self._run_part(*first)
        except BaseException:
            self.cancelled.clear()  # it is on its way, and must not refer to itself
            raise
        finally:
            if self.errors:  # also instead of a cancellation: an error is not lost
                raise self._failure()
        if self.exit is None:
            raise self.cancelled.pop()  # it was taken back, but the parts have ended by it
        return self.exit

    async def _run_part(self, side: Side, part: Awaitable[Exception | None]) -> None:
        self._producing = self._producing or side is Side.PRODUCER
        try:
            cause = await part
        except BaseException as error:
            cancelled = self._take_failure(error)
            try:
                if cancelled is not None:
                    raise cancelled from None
            finally:
                del cancelled  # it refers to this frame
        else:
            # If the peer is gone, the consumer finishes what has arrived, and then ends everything.
            if side is Side.CONSUMER or cause is None or not self.has_consumer:
                self.exit = self.exit or Exit(side, cause)
                self.scope.cancel()

    def _take_failure(self, error: BaseException) -> BaseException | None:
        """Note what is not a cancellation in ``error``; the cancellation, which goes its way."""
        cancelled, failure = _split(error)
        if failure is not None:
            self.errors.append(failure)
            self.scope.cancel()
        elif not self.scope.cancel_called:
            self.cancelled = [error]  # from outside
        return cancelled

    def _failure(self) -> BaseException:
        """The error of the part that failed, or of all that did; it must not refer to itself."""
        errors, self.errors = self.errors, []
        if len(errors) == 1:
            return errors[0]
        return BaseExceptionGroup("several parts of one duplex failed", errors)


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """The cancellation in ``error``, and the rest."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)
    return (error, None) if isinstance(error, trio.Cancelled) else (None, error)
