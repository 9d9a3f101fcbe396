"""A block that closes a resource, out of which comes what was raised in it, as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio
from trio.abc import AsyncResource


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
