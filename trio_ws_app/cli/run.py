"""One server from start to goodbye: the application's block, the server, the signals."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable

import attrs
import trio

from ..errors import CloseCode
from ..server.contain import Handler
from ..server.server import Server
from .target import Application

STOP = (signal.SIGINT, signal.SIGTERM)
RESTART = signal.SIGHUP


@attrs.define
class _Run:
    """What the signals act on: the whole run, and the server once there is one."""

    scope: trio.CancelScope
    server: Server | None = None
    code: CloseCode = CloseCode.GOING_AWAY
    stopping: trio.Event = attrs.field(factory=trio.Event)


async def run(
    application: Application,
    start: Callable[[trio.Nursery, Handler], Awaitable[Server]],
    announce: Callable[[], None],
) -> None:
    """Run ``application`` behind a server until a signal ends it (G7).

    ``start`` starts a server for the handler in the nursery; ``announce`` is called when it listens.
    SIGTERM and SIGINT drain with 1001, SIGHUP with 1012 (a planned restart); a second signal cancels
    at once.
    """
    with trio.open_signal_receiver(*STOP, RESTART) as signals:
        async with trio.open_nursery() as nursery:
            state = _Run(nursery.cancel_scope)
            nursery.start_soon(_obey, signals, state)
            async with application() as handler, trio.open_nursery() as servers:
                state.server = await start(servers, handler)
                announce()
                await state.stopping.wait()
                await state.server.drain(code=state.code)
            nursery.cancel_scope.cancel()


async def _obey(signals: AsyncIterator[int], state: _Run) -> None:
    number = await anext(signals)
    if state.server is not None:
        state.code = CloseCode.SERVICE_RESTART if number == RESTART else CloseCode.GOING_AWAY
        state.stopping.set()
        await anext(signals)
        state.server.cancel()
    state.scope.cancel()
