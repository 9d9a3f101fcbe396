"""The lifespan of an ASGI application: it begins before the server's and ends after it (lifespan 2.0)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from ..callbacks import await_interruptible
from ..concurrency.background import background
from .application import Application, Event, Scope

logger = logging.getLogger("trio_ws_app.asgi")

_RAISING = 1.0  # seconds for an application that has failed to raise why


class LifespanFailed(Exception):
    """The application says that it can't start, or could not stop as it should, and raises nothing.

    Its text is what the application says.
    """


class Lifespan:
    """Runs one application's lifespan in a task; ``state`` is what it gives to every request."""

    def __init__(self, application: Application) -> None:
        self.state: dict[str, Any] = {}
        self.scope = trio.CancelScope(shield=True)  # requests outlive the cancellation of the server
        self._application = application
        self._tell, self._told = trio.open_memory_channel[Event](2)
        self._tell.send_nowait({"type": "lifespan.startup"})
        self._stopping = False
        self._started = trio.Event()
        self._stopped = trio.Event()
        self._ended = trio.Event()
        self._failure: str | None = None  # what the application says of it
        self._error: Exception | None = None

    async def start(self, nursery: trio.Nursery) -> None:
        """Start the application and wait until it is ready. An application without a lifespan is ready.

        Raises what it raises when it says that it can't start, or LifespanFailed.
        """
        nursery.start_soon(self._run, name="lifespan")
        await self._started.wait()
        await self._raise_failure()

    async def stop(self, seconds: float) -> None:
        """Have the application end, and wait for that for so many ``seconds``."""
        self._stopping = True
        self._tell.send_nowait({"type": "lifespan.shutdown"})
        with trio.move_on_after(seconds, shield=True):
            await self._stopped.wait()
        with trio.CancelScope(shield=True):
            await self._raise_failure()

    async def _raise_failure(self) -> None:
        if self._failure is None:
            return
        with trio.move_on_after(_RAISING):  # what it raises says more than what it has sent
            await self._ended.wait()
        raise self._error or LifespanFailed(self._failure)

    @enable_ki_protection
    async def _run(self) -> None:
        scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            with self.scope:
                await await_interruptible(self._application(scope, self._told.receive, self._send))
        except Exception as error:
            if self._failure is not None:
                self._error = error  # it has said so already
                return
            if self._started.is_set():
                raise
            logger.info("the application has no lifespan: it raised %r", error)
        finally:
            self._started.set()
            self._stopped.set()
            self._ended.set()

    async def _send(self, event: Event) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        match event["type"]:
            case "lifespan.startup.complete":
                self._started.set()
            case "lifespan.shutdown.complete":
                self._stopped.set()
            case "lifespan.startup.failed" | "lifespan.shutdown.failed":
                if not self._started.is_set() or self._stopping:
                    self._failure = str(event.get("message") or event["type"])
                    self._started.set()
                    self._stopped.set()
            case other:
                raise RuntimeError(f"an application's lifespan does not send {other!r}")


@asynccontextmanager
async def open_lifespan(
    application: Application | None, grace_period: float
) -> AsyncIterator[dict[str, Any]]:
    """The application's lifespan for the block: its state. None has none.

    The block is cancelled if the application fails meanwhile, and that comes out. At the end it gets
    ``grace_period`` seconds, also when this is cancelled.

    Raises what the application raises when it says that it can't start or could not stop, or
    LifespanFailed if it raises nothing.
    """
    if application is None:
        yield {}
        return
    lifespan = Lifespan(application)
    async with background() as nursery:
        try:
            await lifespan.start(nursery)
            try:
                yield lifespan.state
            finally:
                await lifespan.stop(grace_period)
        finally:
            lifespan.scope.cancel()
