"""Trio as the guest of an asyncio loop, which is asleep when the host does something."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import trio


def run_as_guest(
    main: Callable[[asyncio.Event], Awaitable[object]],
    act: Callable[[], object],
    clock: trio.abc.Clock | None = None,
) -> None:
    """Run ``main(ready)`` in Trio, and ``act()`` in the host's loop a while after ``ready`` has been set."""

    async def host() -> None:
        loop = asyncio.get_running_loop()
        done, ready = asyncio.Event(), asyncio.Event()
        trio.lowlevel.start_guest_run(
            main,
            ready,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=lambda _outcome: done.set(),
            clock=clock,
        )
        await ready.wait()
        await asyncio.sleep(0.05)
        act()
        await done.wait()

    asyncio.run(host())
