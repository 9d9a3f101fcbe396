"""What the servers of the cancellation benchmark that run on Trio share."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import trio

from .cancellation_business import Business
from .cancellation_journal import CLEAN_UP_SECONDS, TORN_BYTES, TORN_SECONDS


async def clean_up(business: Business, side: str) -> None:
    """Take the time of a clean-up, whether or not this is cancelled, and note that ``side`` is done."""
    # A clean-up is shielded and limited by one block, as Trio's guide has it; this one uses all its time.
    with trio.move_on_after(CLEAN_UP_SECONDS, shield=True):
        await trio.sleep_forever()
    business.note(side)


async def tear(send: Callable[[str | bytes], Awaitable[object]]) -> None:
    """Give up a large message half way, and send another one."""
    with trio.move_on_after(TORN_SECONDS):
        await send(bytes(TORN_BYTES))
    await send("hello")


async def stop_signal() -> signal.Signals:
    """Wait for SIGTERM, which is the end of the server, or SIGUSR1, which cancels every handler at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGUSR1) as signals:
        return signal.Signals(await anext(signals))
