"""When a fan-out server publishes, and what: the same for every contender.

At a fixed rate, burst n is due at start + n / rate, and at once when that has passed. Unpaced, the next
broadcast is due as soon as fewer than ``WINDOW`` are on their way, a broadcast being on its way until every
receiver has it: so no contender wins by filling buffers, and none waits for a receiver that keeps up. The
receivers count in a shared file, so that the feedback costs every server the same. After each
broadcast or burst the publisher lets its event loop run.

At a fixed rate trio_ws_app publishes from ``call_every``, and the servers on asyncio whose broadcast is a
plain function from ``loop.call_at``: neither wakes a task. The others sleep.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Awaitable, Callable

from .job import Job

WINDOW = 16
POLL_SECONDS = 0.02
IDENTITY = struct.Struct(">QQB")  # number, time in nanoseconds, whether it is the last one
PROGRESS = struct.Struct("<QQ")  # broadcasts that every receiver has, whether to start


class Publisher:
    """Decides when the next broadcast is due, and makes its payload."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.published = 0
        self.began = 0.0
        self._bursts = 0
        self._padding = bytes(job.size - IDENTITY.size)
        with open(job.progress, "r+b") as file:
            self._shared = mmap.mmap(file.fileno(), PROGRESS.size)

    def may_start(self) -> bool:
        """Whether the receivers are connected and the clock has started."""
        _, go = PROGRESS.unpack_from(self._shared)
        self.began = time.monotonic()
        return bool(go)

    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() - self.began >= self.job.seconds

    def delay(self) -> float:
        """Seconds until the next burst is due, as far as that is known."""
        if not self.job.rate:
            return 0.0
        return max(0.0, self.began + self._bursts / self.job.rate - time.monotonic())

    def due(self) -> bool:
        """Whether the next burst may go out now."""
        if not self.job.rate:
            received, _ = PROGRESS.unpack_from(self._shared)
            return bool(self.published - received < WINDOW)
        self._bursts += 1
        return True

    def message(self, last: bool = False) -> bytes:
        """The next broadcast's payload."""
        number = self.published
        self.published += 1
        return IDENTITY.pack(number, time.monotonic_ns(), last) + self._padding


async def started(job: Job, sleep: Callable[[float], Awaitable[None]]) -> Publisher:
    """A publisher that may begin now."""
    publisher = Publisher(job)
    while not publisher.may_start():
        await sleep(POLL_SECONDS)
    return publisher


async def publish(
    job: Job, sleep: Callable[[float], Awaitable[None]], broadcast: Callable[[bytes], Awaitable[None]]
) -> None:
    """Publish as ``job`` says, with the event loop's own ``sleep`` and the contender's ``broadcast``."""
    publisher = await started(job, sleep)
    while not publisher.over():
        await sleep(publisher.delay())
        if publisher.due():
            for _ in range(job.burst):
                await broadcast(publisher.message())
    await broadcast(publisher.message(last=True))
