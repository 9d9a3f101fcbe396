"""``--broker``: from an option to an open broker, with one line for what can go wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

from ..broker import Broker, BrokerTracing, BrokerUnavailable, open_memory_broker, open_redis_broker
from ..broker.redis_url import parse_redis_url
from ..errors import UsageError

OpenBroker = Callable[[], AbstractAsyncContextManager[Broker]]

NONE = "none"


def broker_for(url: str | None, workers: int = 1, tracing: BrokerTracing | None = None) -> OpenBroker:
    """What opens the broker that ``--broker`` names; without one, a broker within the process.

    Opening it raises UsageError if it can't be reached. So does this function for a URL that is none, and
    for several workers without a broker that they share.
    """
    if url is None and workers > 1:
        raise UsageError(
            f"--workers {workers} needs a broker that the workers share: give --broker redis://localhost:6379"
            f" (or --broker {NONE} if clients of different workers have nothing to share)"
        )
    if url is None or url == NONE:
        return partial(open_memory_broker, tracing=tracing)
    try:
        parse_redis_url(url)
    except ValueError as problem:
        raise UsageError(f"--broker: {problem}") from None
    return partial(_open_redis, url, tracing)


def broker_name(url: str | None) -> str:
    """The broker that ``--broker`` names, for people: without credentials."""
    if url is None or url == NONE:
        return NONE
    scheme, addresses = url.partition("://")[0], parse_redis_url(url).addresses
    return f"{scheme}://{','.join(map(str, addresses))}"


@asynccontextmanager
async def _open_redis(url: str, tracing: BrokerTracing | None) -> AsyncIterator[Broker]:
    async with AsyncExitStack() as stack:
        try:
            broker = await stack.enter_async_context(open_redis_broker(url, tracing=tracing))
        except BrokerUnavailable as problem:
            raise UsageError(f"--broker: {problem}") from None
        yield broker
