"""What the fixtures of the pytest plugin are, and how a test that uses them runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import trio
from trio.testing import MockClock

from ..broker import Broker, open_memory_broker
from ..callbacks import leaves
from ..cli.target import as_application
from ..concurrency.background import background
from ..errors import UsageError
from ..server.app import App
from ..server.options import Handler
from ..settings import Settings
from .leftovers import tasks_below
from .memory import MemoryServer, serve_in_memory
from .points import on_one_screen, users_waits
from .threads import ThreadsHoldTime

if TYPE_CHECKING:
    import httpx
    import pytest

LONGEST = 6 * 3600.0
"""A test that waits for what never comes fails after so long, instead of watching keepalive for ever."""

Opened = TypeVar("Opened")
Application = Handler | App | Callable[..., AbstractAsyncContextManager[Handler | App]]


def run_on_virtual_time(
    item: pytest.Function,
    test: Callable[[], Awaitable[object]],
    *,
    clock: trio.abc.Clock | None,
    instruments: Sequence[trio.abc.Instrument],
) -> None:
    """What pytest-trio calls with the ``test`` of ``item``; ``clock`` is one of the test's arguments.

    Without a clock among the fixtures, time is virtual too. If a single exception comes out, that is
    raised, and no group around it.
    """
    __tracebackhide__ = True  # pytest shows the test alone
    fixtures: dict[str, Any] = item.funcargs  # others whenever the test is run again
    clock = clock or fixtures.get("autojump_clock") or MockClock(autojump_threshold=0)
    if isinstance(clock, MockClock):
        instruments = [*instruments, ThreadsHoldTime(clock)]
    try:
        trio.run(_run_limited, test, fixtures.get("ws_server"), clock=clock, instruments=instruments)
        return
    except BaseExceptionGroup as group:
        error, *others = leaves(group)
        if others:
            raise
    raise error  # outside the handler, so that the group is not shown as well


async def _run_limited(test: Callable[[], Awaitable[object]], fixture: ServerFixture | None) -> None:
    main = trio.lowlevel.current_task()
    async with background() as nursery:
        nursery.start_soon(_give_up, main)
        await run_with_servers(test, fixture)


async def _give_up(main: trio.lowlevel.Task) -> None:
    await trio.sleep(LONGEST)
    waiting = on_one_screen(users_waits(tasks_below(main)))
    raise AssertionError(f"not over after six hours of virtual time: waits for what never comes\n{waiting}")


async def run_with_servers(test: Callable[[], Awaitable[object]], fixture: ServerFixture | None) -> None:
    """Run a test; what it serves by ``fixture`` ends after it."""
    async with nullcontext() if fixture is None else fixture.open():
        await test()


@attrs.define(eq=False)
class ServerFixture:
    """The fixture ``ws_server``: ``server = await ws_server(application)`` serves until the test ends."""

    _nursery: trio.Nursery | None = attrs.field(default=None, init=False)
    _over: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def __call__(
        self,
        application: Application,
        *,
        broker: Broker | None = None,
        settings: Settings | None = None,
        victim: str | None = None,
    ) -> MemoryServer:
        """Serve in memory what ``trio-ws-app serve`` takes: a handler, an App, or an application function.

        An application function with a parameter ``broker`` gets ``broker``, or one in memory if that is None.
        ``settings`` and ``victim`` are those of ``serve_in_memory``.

        Raises UsageError for what is no application, and what the application raises at its start.
        """
        name = getattr(application, "__name__", repr(application))
        block = _serving(as_application(application, name), broker, settings, victim)
        return await self.enter(block)

    async def enter(self, block: AbstractAsyncContextManager[Opened]) -> Opened:
        """Enter a context manager, in a task of its own, until the test ends."""
        if self._nursery is None:
            raise RuntimeError("ws_server serves in an async test that pytest-trio runs, which this is not")
        opened: Opened = await self._nursery.start(self._hold, block)
        return opened

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """The length of the test: what is entered within the block is left when it ends."""
        ended, self._over = trio.Event(), trio.Event()
        async with background() as nursery:
            self._nursery = await nursery.start(self._run, ended)
            try:
                yield
            finally:
                self._nursery = None
                self._over.set()
                await ended.wait()

    async def _run(self, ended: trio.Event, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                task_status.started(nursery)
                await self._over.wait()
        finally:
            ended.set()

    async def _hold(
        self, block: AbstractAsyncContextManager[Opened], task_status: trio.TaskStatus[Opened]
    ) -> None:
        async with block as opened:
            task_status.started(opened)
            await self._over.wait()


@asynccontextmanager
async def _serving(
    application: Callable[[Broker], AbstractAsyncContextManager[App]],
    broker: Broker | None,
    settings: Settings | None,
    victim: str | None,
) -> AsyncGenerator[MemoryServer]:
    async with AsyncExitStack() as stack:
        if broker is None:
            broker = await stack.enter_async_context(open_memory_broker())
        app = await stack.enter_async_context(application(broker))
        yield await stack.enter_async_context(serve_in_memory(app, settings=settings, victim=victim))


@attrs.define(eq=False)
class HttpFixture:
    """The fixture ``ws_http``: ``http = await ws_http(server)`` is an HTTP client until the test ends."""

    _servers: ServerFixture

    async def __call__(self, server: MemoryServer) -> httpx.AsyncClient:
        """An ``httpx.AsyncClient`` that reaches ``server``, for paths without a host: ``http.get("/")``.

        It has no timeouts. Raises UsageError if httpx is not installed.
        """
        try:
            from .http import http_client
        except ModuleNotFoundError:
            raise UsageError("ws_http needs httpx: pip install httpx") from None
        return await self._servers.enter(http_client(server.connect_raw))
