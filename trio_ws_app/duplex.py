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

_SEVERAL = "several parts of one duplex failed"


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
    and are waited for; a cancellation that comes after the first exit does not hide that.

    Raises:
        TypeError: neither ``consume`` nor ``produce`` was given.
    """
    if not (_listed(consume) or _listed(produce)):
        raise TypeError("duplex needs consume=, produce=, or both")
    parts = _Parts()
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            try:
                parts.ended(await parts.start(nursery, channel, _listed(consume), _listed(produce)))
            except BaseException as error:
                parts.failed(error)
    except BaseExceptionGroup as group:
        parts.failed(group.exceptions[0])  # Ctrl-C: it came while the last parts were waited for
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


class _Parts(Siblings):
    """The parts of one duplex, and how they have ended so far.

    What they raise is kept here: their nursery would describe it and make a group of it, to be taken apart.
    """

    __slots__ = ("_failures", "_first", "_has_consumer", "_scope")

    def __init__(self) -> None:
        super().__init__()
        self._first: Exit | BaseException | None = None
        self._failures: list[BaseException] = []  # what the parts have raised besides cancellations

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

    async def _produce(self, channel: Channel[Item], producer: Producer[Item]) -> None:
        self.producing = True
        try:
            cause = await production(channel, producer)
        except BaseException as error:
            self.failed(error)
        else:
            # If the peer is gone, the consumer finishes what has arrived, and then ends everything.
            if cause is None or not self._has_consumer:
                self._end(Exit(Side.PRODUCER, cause))

    def ended(self, cause: Exception | None) -> None:
        """The part in the caller's task has ended, since it was told so by ``cause`` or is exhausted."""
        self._end(Exit(Side.CONSUMER if self._has_consumer else Side.PRODUCER, cause))

    def failed(self, error: BaseException) -> None:
        """A part has raised ``error``, or was cancelled."""
        if (failure := failure_in(error)) is not None:
            self._failures.append(failure)
        self._end(error)

    def _end(self, how: Exit | BaseException) -> None:
        if self._first is None:
            self._first = how
            self._scope.cancel()

    def result(self) -> Exit:
        """What ended it first. Raises what its parts have raised, or its cancellation if that came first.

        The parts forget it: it knows the frames that know them.
        """
        first, failures = self._first, self._failures
        self._first, self._failures = None, []
        try:
            if failures:
                raise failures[0] if len(failures) == 1 else BaseExceptionGroup(_SEVERAL, failures)
            if isinstance(first, BaseException):
                raise next(leaves(first))
            assert first is not None
            return first
        finally:
            del first, failures
