"""A nursery for the tasks behind a block."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from ..callbacks import failure_in


@asynccontextmanager
async def background() -> AsyncGenerator[trio.Nursery]:
    """A nursery whose tasks are cancelled when the block ends.

    What the block raises comes out as itself, also while the block is cancelled. If a task fails, that comes
    out as from any nursery, together with what the block then raised besides its cancellation.

    Raises RuntimeError outside of Trio, which says so.
    """
    if not trio.lowlevel.in_trio_run():
        raise RuntimeError("this runs in Trio: write trio.run(main), not asyncio.run(main())")
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except BaseException as error:
                failure = failure_in(error)
                if failure is None:
                    raise
            nursery.cancel_scope.cancel()
    except BaseException as error:
        of_tasks = failure_in(error)
        if failure is None:
            raise
        if of_tasks is not None:
            raise BaseExceptionGroup("a block and a task behind it failed", [failure, of_tasks]) from None
    if failure is not None:
        raise failure
