"""Consumer and producer in parallel: the first exit cancels the siblings, and all have cleaned up.

``duplex`` is what replaces ``gather`` and ``wait`` + ``cancel``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from enum import StrEnum
from typing import Any

import attrs
import trio

from .callbacks import is_async
from .patterns import Channel, Consumer, Item, Producer, call_inline, consumption, production


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
    channel: Channel[Item],
    *,
    consume: Consumer[Item] | Sequence[Consumer[Item]] | None = None,
    produce: Producer[Item] | Sequence[Producer[Item]] | None = None,
) -> Exit:
    """Run consumers and producers in parallel; when one ends, cancel the others and wait for them (G1).

    With several consumers, each message goes to every one of them, in turn. When the
    peer is gone, producers are cancelled at once, consumers first finish what had arrived.

    Each part is one task from its beginning to its end: the consumers in the caller's, if there are any,
    each producer in one of its own. Returns after every ``finally`` block has run. One error comes out as
    itself, several as one ExceptionGroup; the peer's Close is no error. When cancelled, all parts are,
    and are waited for.

    Raises:
        TypeError: neither ``consume`` nor ``produce`` was given.
    """
    consumers: list[Consumer[Item]] = _listed(consume)
    producers: list[Producer[Item]] = _listed(produce)
    if not (consumers or producers):
        raise TypeError("duplex needs consume=, produce=, or both")
    parts = _Parts(has_consumer=bool(consumers))
    try:
        async with trio.open_nursery() as nursery:
            parts.scope = nursery.cancel_scope
            if consumers:
                part = consumption(channel, _in_turn(consumers), parts.has_producers)
                first = parts.run(Side.CONSUMER, part)
            else:
                first = parts.run(Side.PRODUCER, production(channel, producers.pop(0)))
            for producer in producers:
                nursery.start_soon(parts.run, Side.PRODUCER, production(channel, producer))
            await first
    except BaseException:
        parts.cancelled = None  # it is on its way, and must not refer to itself
        raise
    finally:
        parts.raise_failure()  # also instead of a cancellation: an error is not lost
    return parts.result()


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def _in_turn(consumers: list[Consumer[Item]]) -> Consumer[Item]:
    """One consumer that gives each message to all of ``consumers``."""
    if len(consumers) == 1:
        return consumers[0]

    async def give_to_all(message: Item) -> None:
        for consumer in consumers:
            await (consumer(message) if is_async(consumer) else call_inline(consumer, message))

    return give_to_all


@attrs.define
class _Parts:
    """The parts of one duplex, and how they have ended so far."""

    has_consumer: bool
    scope: trio.CancelScope = attrs.field(init=False)
    exit: Exit | None = None
    errors: tuple[BaseException, ...] = ()
    cancelled: BaseException | None = None
    _producing: bool = False

    def has_producers(self) -> bool:
        """Whether a producer has begun; the consumer's first step comes before that."""
        return self._producing

    async def run(self, side: Side, part: Awaitable[Exception | None]) -> None:
        """Run one part; note how it ends, and cancel the others."""
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
            self.errors += (failure,)
            self.scope.cancel()
        elif not self.scope.cancel_called:
            self.cancelled = error  # from outside
        return cancelled

    def raise_failure(self) -> None:
        """Raise the error of the part that failed, or of all that did; it must not refer to itself."""
        errors, self.errors = self.errors, ()
        try:
            if len(errors) == 1:
                raise errors[0]
            if errors:
                raise BaseExceptionGroup("several parts of one duplex failed", errors)
        finally:
            del errors

    def result(self) -> Exit:
        """How it ended."""
        if self.exit is None:
            # A cancellation from outside was taken back, but the parts have ended by it.
            error, self.cancelled = self.cancelled, None
            assert error is not None
            try:
                raise error
            finally:
                del error
        return self.exit


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """The cancellation in ``error``, and the rest."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)
    return (error, None) if isinstance(error, trio.Cancelled) else (None, error)
