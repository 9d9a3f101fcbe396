"""One server from start to goodbye: the application's block, the server, the signals."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from socket import AF_UNIX

import attrs
import click
import trio

from ..broker import Broker
from ..errors import CloseCode
from ..pages import first_of
from ..server.options import Handler
from ..server.server import Server
from ..server.serving import serve
from .listeners import place
from .plan import Plan
from .watching import serve_side

STOP = (signal.SIGINT, signal.SIGTERM)
RESTART = signal.SIGHUP


@attrs.define
class _Run:
    """What the signals act on: the whole run, and the server once there is one."""

    scope: trio.CancelScope
    server: Server | None = None
    code: CloseCode = CloseCode.GOING_AWAY
    stopping: trio.Event = attrs.field(factory=trio.Event)


async def run(plan: Plan) -> None:
    """Serve what is planned until a signal ends it (G7); say on standard output when it listens.

    SIGTERM and SIGINT drain with 1001, SIGHUP with 1012 (a planned restart); a second signal cancels
    at once.
    """
    with trio.open_signal_receiver(*STOP, RESTART) as signals:
        async with trio.open_nursery() as nursery:
            state = _Run(nursery.cancel_scope)
            nursery.start_soon(_obey, signals, state)
            async with (
                plan.listeners as listeners,
                plan.broker() as broker,
                plan.application(broker) as handler,
            ):
                await _serve(plan, listeners, handler, broker, state)
            nursery.cancel_scope.cancel()


async def _serve(
    plan: Plan, listeners: list[trio.SocketListener], handler: Handler, broker: Broker, state: _Run
) -> None:
    """Serve until a signal has come and the goodbyes are said."""
    watching = plan.watching
    hooks = [*watching.hooks, *plan.pages]
    start = partial(
        serve,
        handler,
        listeners=listeners,
        ssl_context=plan.ssl_context,
        settings=plan.settings,
        process_request=first_of(*hooks) if hooks else None,
        readiness=lambda: broker.problem,
    )
    async with trio.open_nursery() as nursery:
        for side in watching.sides:
            await nursery.start(serve_side, side)
        if watching.lag:
            nursery.start_soon(watching.inspector.measure_lag)
        server: Server = await nursery.start(start)
        watching.inspector.watch(server)
        state.server = server
        if plan.worker is None:
            announce(plan, listeners)
        else:
            nursery.start_soon(plan.worker.stop_when_orphaned)
            plan.worker.announce()
        await state.stopping.wait()
        await server.drain(code=state.code)
        nursery.cancel_scope.cancel()


def announce(plan: Plan, listeners: list[trio.SocketListener]) -> None:
    """Say on standard output where the server listens."""
    tls = "s" if plan.ssl_context else ""
    click.echo(f"listening on {place(listeners, f'ws{tls}')}")
    if plan.pages and listeners[0].socket.family != AF_UNIX:
        click.echo(f"page at {place(listeners, f'http{tls}')}/")
    sys.stdout.flush()


async def _obey(signals: AsyncIterator[int], state: _Run) -> None:
    number = await anext(signals)
    if state.server is not None:
        state.code = CloseCode.SERVICE_RESTART if number == RESTART else CloseCode.GOING_AWAY
        state.stopping.set()
        await anext(signals)
        state.server.cancel()
    state.scope.cancel()
