"""One server from start to end: the application's block, the server, the signals."""

from __future__ import annotations

import logging
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from socket import AF_UNIX

import attrs
import trio

from ..broker import Broker
from ..errors import CloseCode
from ..observability.inspection.snapshot import BrokerState
from ..primitives import COMPILED
from ..server.app import App
from ..server.server import Server
from ..server.serving import serve
from ..server.tasks import running_place, users_places
from ..server.tls import Certificates
from .broker import NONE
from .configuration import Configuration
from .errors import FAILED, requested_status
from .listeners import url_of
from .log_output import FLUSH_TIMEOUT, LogWriter
from .observability import serve_admin
from .process import rest_collector, say
from .shutdown import RELOAD, Shutdown
from .systemd import Notifier

MOST_PLACES = 5

logger = logging.getLogger("trio_ws_app.cli")


@attrs.define
class _Run:
    """What the signals act on: the whole run, and the server once there is one."""

    scope: trio.CancelScope
    shutdown: Shutdown
    notifier: Notifier
    server: Server | None = None
    code: CloseCode = CloseCode.GOING_AWAY
    stop_requested: trio.Event = attrs.field(factory=trio.Event)

    async def attend_end(self, server: Server) -> None:
        """When the server stops, see to it that the process ends in time, also without a signal."""
        try:
            await server.wait_draining()
            self.notifier.stopping()
        finally:
            interrupt = server.interrupt
            self.shutdown.expect_end(FAILED if interrupt is None else requested_status(interrupt))
        await rest_collector(server.settings.grace_period)


async def run(config: Configuration, shutdown: Shutdown, notifier: Notifier, log: LogWriter) -> None:
    """Serve as configured until a signal ends it (G7); say on standard output when it listens.

    SIGTERM and SIGINT drain with 1001, SIGHUP with 1012 (a planned restart); a second signal cancels
    at once.
    """
    report = partial(_report_running, trio.lowlevel.current_root_task(), log)
    with shutdown.receiver(report) as signals:
        async with trio.open_nursery() as nursery:
            state = _Run(nursery.cancel_scope, shutdown, notifier)
            nursery.start_soon(_obey, signals, state, config.certificates)
            async with config.broker() as broker, config.application(broker) as app:
                try:
                    await _serve(config, app, broker, state)
                finally:
                    config.listening.close()  # no client waits there for the application's end
            nursery.cancel_scope.cancel()


async def _serve(config: Configuration, app: App, broker: Broker, state: _Run) -> None:
    """Serve until a signal has come and the closing handshakes are over."""
    observability = config.observability
    config.listening.listen()  # else a Unix socket looks like one that was left behind
    async with trio.open_nursery() as nursery:
        for bind, hook in observability.listeners:
            await nursery.start(serve_admin, bind, hook)
        if observability.measures_lag:
            nursery.start_soon(observability.inspector.measure_lag)
        if config.certificates is not None:
            nursery.start_soon(config.certificates.watch)
        start = partial(
            serve,
            app,
            ssl_context=None if config.certificates is None else config.certificates.context,
            settings=config.settings,
            process_request=[*observability.hooks, *config.pages],
            listeners=config.listening.listeners(),
            readiness=lambda: broker.problem,
            tracing=config.tracing,
        )
        server: Server = await nursery.start(start)
        observability.inspector.watch(server, lambda: BrokerState(config.broker_name, broker.problem))
        if config.tracing is not None:
            config.tracing.measure(server)
        state.server = server
        nursery.start_soon(state.attend_end, server)
        if config.worker is None:
            announce(config)
            state.notifier.ready()
            nursery.start_soon(state.notifier.keep_watchdog)
        else:
            config.worker.announce()
            if config.worker_timeout is not None:
                nursery.start_soon(config.worker.beat, config.worker_timeout)
        await state.stop_requested.wait()
        is_replaced = config.worker is not None and state.code == CloseCode.SERVICE_RESTART
        await _drain(server, state.code, config.has_successor or is_replaced)
        nursery.cancel_scope.cancel()


async def _drain(server: Server, code: CloseCode, has_successor: bool) -> None:
    """Close the connections: all at once, or on a planned restart in batches."""
    settings = server.settings
    size = settings.restart_batch_size if code == CloseCode.SERVICE_RESTART else None
    batches = 1 if size is None else max(1, len(server.connections) / size)
    interval = min(settings.restart_batch_interval, settings.grace_period / 2 / batches)
    await server.drain(code=code, batch_size=size, batch_interval=interval, has_successor=has_successor)


def announce(config: Configuration) -> None:
    """Say on standard output where the server listens; in the log, what it is made of beside one process."""
    tls = "s" if config.certificates else ""
    first, *others = config.listening.sockets
    say(f"listening on {url_of(first, f'ws{tls}')}")
    if config.pages and first.family != AF_UNIX:
        say(f"page at {url_of(first, f'http{tls}')}/")
    for sock in others:
        say(f"also listening on {url_of(sock, f'ws{tls}')}")
    if not COMPILED:  # an installer hides a compilation that failed; not said before: a mistake is one line
        logger.info("not compiled, so slower: 'pip install --verbose' says what the compiler met")
    if config.workers > 1 or config.broker_name != NONE:
        logger.info("ready", extra={"workers": config.workers, "broker": config.broker_name})


async def _obey(signals: AsyncIterator[int], state: _Run, certificates: Certificates | None) -> None:
    number = await anext(signals)
    while certificates is not None and number == RELOAD:
        certificates.reload()
        if state.server is not None:  # else it is not ready yet
            state.notifier.reloading()
            state.notifier.ready()
        number = await anext(signals)
    if state.server is not None:
        state.code = CloseCode.SERVICE_RESTART if number == signal.SIGHUP else CloseCode.GOING_AWAY
        state.stop_requested.set()
        await anext(signals)
        state.server.cancel()
    state.scope.cancel()


def _report_running(root: trio.lowlevel.Task | None, log: LogWriter) -> None:
    """Name what does not end, in one line of the log; called in the watchdog's thread."""
    busy = running_place(threading.main_thread().ident or 0)
    places = [busy] if busy else users_places(root) if root else []
    counted = Counter(f"{place.function} ({place.file}:{place.line})" for place in places)
    names = [f"{count} x {name}" if count > 1 else name for name, count in counted.most_common(MOST_PLACES)]
    if len(counted) > MOST_PLACES:
        names.append(f"{len(counted) - MOST_PLACES} more")
    what = ", ".join(names) or "a thread"
    message = f"the process is ended by force: this does not end: {what}"
    # Straight to our own handler: one of the application's may be what does not end.
    log.handle(logger.makeRecord(logger.name, logging.ERROR, __file__, 0, message, (), None))
    log.flush(FLUSH_TIMEOUT / 2)
