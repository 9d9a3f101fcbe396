"""How the parts of a duplex end, and what comes out of it."""

from __future__ import annotations

from enum import StrEnum
from math import inf

import attrs
import trio
from trio.lowlevel import RaiseCancelT


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


@attrs.define
class Exits:
    """What has ended so far; the first exit cancels ``scope``, and with it the other parts."""

    has_consumer: bool
    scope: trio.CancelScope = attrs.field(init=False)
    exit: Exit | None = None
    errors: tuple[Exception, ...] = ()
    cancelled: BaseException | None = None
    raise_cancel: RaiseCancelT | None = None  # instead of an exception, from a consumer that only waited

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
