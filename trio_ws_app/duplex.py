"""Consumer and producer in parallel: the first exit cancels the siblings, and all have cleaned up.

``duplex`` is what replaces ``gather`` and ``wait`` + ``cancel``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from enum import StrEnum
from typing import Any

import attrs
import trio

from .callbacks import failure_in, is_async, leaves
from .patterns import Channel, Consumer, Item, Producer, Siblings, call_inline, consumption, production


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
    if not (_listed(consume) or _listed(produce)):
        raise TypeError("duplex needs consume=, produce=, or both")
    parts = _Parts()
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            try:
                parts.caller_ended(await parts.start(nursery, channel, _listed(consume), _listed(produce)))
            except BaseException as error:
                parts.error = error  # the nursery may keep it, as a cancellation of its own
                raise
    except BaseExceptionGroup as group:
        parts.exit = None  # an error is not lost
        parts.error = _unwrapped(group)
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


@attrs.define(eq=False)
class _Parts(Siblings):
    """The parts of one duplex, and how they have ended so far."""

    exit: Exit | None = None
    error: BaseException | None = None
    _has_consumer: bool = False
    _scope: trio.CancelScope = attrs.field(init=False)

    def start(
        self,
        nursery: trio.Nursery,
        channel: Channel[Item],
        consumers: list[Consumer[Item]],
        producers: list[Producer[Item]],
    ) -> Awaitable[Exception | None]:
        """Start every part but one, and return that one, which is for the caller to wait for."""
        self._scope = nursery.cancel_scope
        self._has_consumer = bool(consumers)
        for producer in producers if consumers else producers[1:]:
            nursery.start_soon(self._produce, channel, producer, name="producer")
        if consumers:
            return consumption(channel, _in_turn(consumers), self)
        return production(channel, producers[0])

    def caller_ended(self, cause: Exception | None) -> None:
        """The part in the caller's task has ended; ``cause`` has told it so, or it is exhausted."""
        self._end(Exit(Side.CONSUMER if self._has_consumer else Side.PRODUCER, cause))

    async def _produce(self, channel: Channel[Item], producer: Producer[Item]) -> None:
        self.producing = True
        cause = await production(channel, producer)
        # If the peer is gone, the consumer finishes what has arrived, and then ends everything.
        if cause is None or not self._has_consumer:
            self._end(Exit(Side.PRODUCER, cause))

    def _end(self, how: Exit) -> None:
        self.exit = self.exit or how
        self._scope.cancel()

    def result(self) -> Exit:
        """How it ended. Raises what one of the parts has raised, if nothing else has ended it.

        The parts forget it: it knows the frames that know them.
        """
        ended, error = self.exit, self.error
        self.exit = self.error = None
        try:
            if ended is not None:
                return ended
            assert error is not None
            raise error
        finally:
            del error


def _unwrapped(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Of what the parts have raised: the one error, or all of them as one group, or else a cancellation."""
    failures = [failure for error in group.exceptions if (failure := failure_in(error)) is not None]
    if not failures:
        return next(leaves(group))
    if len(failures) == 1:
        return failures[0]
    return BaseExceptionGroup("several parts of one duplex failed", failures)
