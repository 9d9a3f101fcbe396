"""Blocks with tasks behind them, out of which comes what was raised in them, as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio
from trio.abc import AsyncResource


@asynccontextmanager
async def background_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery whose tasks are cancelled when the block ends.

    What the block raises comes out as itself, not in a group. What the tasks raise comes out as from
    any nursery, if the block did not fail by itself.
    """
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except trio.Cancelled:
                raise
            except BaseException as error:
                failure = error
            nursery.cancel_scope.cancel()
    except BaseException:
        if failure is None:
            raise
    if failure is not None:
        raise failure


@asynccontextmanager
async def closing(resource: AsyncResource) -> AsyncIterator[None]:
    """Close ``resource`` when the block ends; what the block raises comes out even if that is cancelled."""
    try:
        yield
    except BaseException:
        with suppress(trio.Cancelled):
            await resource.aclose()
        raise
    await resource.aclose()
