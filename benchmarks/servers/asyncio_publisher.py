"""Publishing on asyncio where broadcasting is a plain function: at a fixed rate it wakes no task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .job import Job
from .publisher import publish, started


async def publish_plainly(job: Job, send_to_all: Callable[[bytes], object]) -> None:
    """Publish as ``job`` says, at a fixed rate from a timer of the loop."""
    if job.rate:
        await _publish_at_rate(job, send_to_all)
        return

    async def broadcast(message: bytes) -> None:
        send_to_all(message)

    await publish(job, asyncio.sleep, broadcast)


async def _publish_at_rate(job: Job, send_to_all: Callable[[bytes], object]) -> None:
    publisher = await started(job, asyncio.sleep)
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    start = loop.time()
    number = 0

    def publish_due() -> None:
        nonlocal number
        if publisher.over():
            over.set_result(None)
            return
        try:
            for _ in range(job.burst):
                send_to_all(publisher.message())
        except Exception as error:
            over.set_exception(error)
            return
        number += 1
        loop.call_at(start + number / job.rate, publish_due)

    publish_due()
    await over
    send_to_all(publisher.message(last=True))
