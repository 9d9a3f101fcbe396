"""Consumer and producer in parallel: the first exit cancels the siblings, and all have cleaned up.

``duplex`` is what replaces ``gather`` and ``wait`` + ``cancel``.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import attrs
import trio

from .callbacks import failure_in, leaves
from .patterns import Channel, Consumer, Item, Producer, Siblings, as_async, consumption, production


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
    consumers, producers = _each(consume), _each(produce)
    if not (consumers or producers):
        raise TypeError("duplex needs consume=, produce=, or both")
    parts, error = _Parts(bool(consumers)), None
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            parts.scope = nursery.cancel_scope
            for producer in producers if consumers else producers[1:]:
                nursery.start_soon(parts.produce, channel, producer, name="producer")
            try:
                if consumers:
                    parts.end(Exit(Side.CONSUMER, await consumption(channel, _in_turn(consumers), parts)))
                else:
                    await parts.produce(channel, producers[0])
            except BaseException as raised:
                error = raised  # the nursery may keep it, as a cancellation of its own
                raise
    except BaseExceptionGroup as group:
        parts.exit, error = None, _unwrapped(group)  # an error is not lost
    try:
        if parts.exit is not None:
            return parts.exit
        assert error is not None
        raise error
    finally:
        parts.exit = error = None  # they know the frames that know them


def _each(given: Any) -> tuple[Any, ...]:
    if given is None:
        return ()
    return tuple(given) if isinstance(given, list | tuple) else (given,)


def _in_turn(consumers: Sequence[Consumer[Item]]) -> Consumer[Item]:
    """One consumer that gives each message to all of ``consumers``."""
    if len(consumers) == 1:
        return consumers[0]
    in_order = [as_async(consumer) for consumer in consumers]

    async def give_to_all(message: Item) -> None:
        for consumer in in_order:
            await consumer(message)

    return give_to_all


@attrs.define(eq=False)
class _Parts(Siblings):
    """The parts of one duplex, and how the first of them has ended."""

    scope: trio.CancelScope = attrs.field(init=False)
    exit: Exit | None = attrs.field(init=False, default=None)

    async def produce(self, channel: Channel[Item], producer: Producer[Item]) -> None:
        self.producing = True
        cause = await production(channel, producer, self)
        # If the peer is gone, the consumer finishes what has arrived, and then ends everything.
        if cause is None or not self.consuming:
            self.end(Exit(Side.PRODUCER, cause))

    def end(self, how: Exit) -> None:
        self.exit = self.exit or how
        self.scope.cancel()


def _unwrapped(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what the parts have raised: the one error, or all of them as one group, or else a cancellation."""
    failures = [failure for error in group.exceptions if (failure := failure_in(error)) is not None]
    if not failures:
        return next(leaves(group))
    if len(failures) == 1:
        return failures[0]
    return BaseExceptionGroup("several parts of one duplex failed", failures)
