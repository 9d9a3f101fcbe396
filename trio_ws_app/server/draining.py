"""How a server stops (G7): in which order, how long that may take, and what comes out of ``serve``."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..callbacks import interrupt_in
from ..concurrency.running_time import sleep_running
from ..errors import CloseCode
from ..protocol.closing import close_payload
from ..wire.connection import WireConnection
from .tasks import waiting_place

logger = logging.getLogger("trio_ws_app.server")

_STUBBORN = 5.0  # seconds after the cancellation until a task that has not ended is named


_is_time = attrs.validators.ge(0.0)
_is_size = attrs.validators.optional(attrs.validators.ge(1))


@attrs.frozen(kw_only=True)
class Shutdown:
    """How a server closes its connections: how many at once, how far apart, and how long it waits.

    Raises ValueError for a close code that may not be sent, a reason over 123 bytes, a negative time, or a
    batch of none.
    """

    code: int = CloseCode.GOING_AWAY
    reason: str = ""
    grace_period: float = attrs.field(validator=_is_time)
    batch_size: int | None = attrs.field(default=None, validator=_is_size)
    batch_interval: float = attrs.field(default=0.0, validator=_is_time)

    def __attrs_post_init__(self) -> None:
        close_payload(self.code, self.reason)


class Stop:
    """Whether a server is to stop, and how: the first shutdown that is asked for counts.

    ``grace`` is the scope of everything that is waited for before the handlers are cancelled.
    """

    def __init__(self, grace_period: float) -> None:
        self.shutdown = Shutdown(grace_period=grace_period)
        self.requested = trio.Event()
        self.finished = trio.Event()
        self.grace = trio.CancelScope()
        self.interrupt: KeyboardInterrupt | SystemExit | None = None  # what ``serve`` raises afterwards

    def request(self, shutdown: Shutdown | None = None) -> None:
        """Stop in an orderly way; without a ``shutdown``, with 1001 and the grace period of the settings."""
        if not self.requested.is_set():
            self.shutdown = shutdown or self.shutdown
            self.requested.set()

    def cut_short(self) -> None:
        """Stop without closing handshakes, or give up waiting for what it has begun."""
        self.grace.cancel()
        self.request()

    async def end_grace(self) -> None:
        """Give up waiting when the grace period is over: a standstill takes nothing of it (G14)."""
        await sleep_running(self.shutdown.grace_period)
        self.grace.cancel()

    def ended_by(self, error: BaseException) -> bool:
        """Whether ``error`` is to end the program: then the server stops, and ``serve`` raises it.

        Ctrl-C while the server stops cuts that short.
        """
        interrupt = interrupt_in(error)
        if interrupt is None:
            return False
        if isinstance(interrupt, KeyboardInterrupt) and self.requested.is_set():
            self.cut_short()
        self.interrupt = self.interrupt or interrupt
        self.request()
        return True

    @enable_ki_protection
    async def watch(self) -> None:
        """Wait until the server has finished; a cancellation or Ctrl-C makes it stop."""
        try:
            await self._wait_finished()
        finally:
            self.request()
            with trio.CancelScope(shield=True):
                while not self.finished.is_set():  # Ctrl-C cuts it short
                    await self._wait_finished()

    async def _wait_finished(self) -> None:
        try:
            await self.finished.wait()
        except KeyboardInterrupt as interrupt:
            self.ended_by(interrupt)


async def close_all(connections: Iterable[WireConnection], shutdown: Shutdown) -> None:
    """Send each connection its Close, batch by batch, with a jitter of a half between them."""
    waiting = list(connections)
    size = shutdown.batch_size or len(waiting) or 1
    for start in range(0, len(waiting), size):
        if start:
            await trio.sleep(shutdown.batch_interval * random.uniform(0.5, 1.5))
        for connection in waiting[start : start + size]:
            connection.send_close(shutdown.code, shutdown.reason)


async def name_stubborn_tasks(cancelled: trio.Nursery) -> None:
    """Log each task of the cancelled nursery that has still not ended some seconds later."""
    await trio.sleep(_STUBBORN)
    for task in cancelled.child_tasks:
        place = waiting_place(task)
        where = "" if place is None else f": it waits at {place.file}:{place.line}, in {place.function}"
        logger.warning("%s was cancelled %g seconds ago and has not ended%s", task.name, _STUBBORN, where)
