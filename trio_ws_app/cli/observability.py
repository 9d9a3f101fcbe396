"""Inspection and metrics: on the server's own port, or on admin listeners beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import attrs
import trio

from ..connection import Connection
from ..errors import UsageError
from ..observability.inspection.hook import Inspector
from ..request import Request, Response
from ..server.options import ProcessRequest
from ..server.serving import serve
from .listeners import Listening, bind_tcp, bind_unix, url_of
from .worker import Inherited

if TYPE_CHECKING:
    from ..observability.tracing import OpenTelemetry

logger = logging.getLogger("trio_ws_app.cli")

Bind = Callable[[], Listening]


@attrs.frozen
class Observability:
    """``hooks`` answer on the server's own port, ``listeners`` beside it, for HTTP alone.

    ``measures_lag`` says whether the lag of the event loop is measured, which metrics show.
    """

    inspector: Inspector
    hooks: list[ProcessRequest] = attrs.field(factory=list)
    listeners: list[tuple[Bind, ProcessRequest]] = attrs.field(factory=list)
    measures_lag: bool = False


def configure_observability(
    worker: Inherited | None, *, control: str | None, control_token: str | None, metrics: str | None
) -> Observability:
    """What the options ask for, in a single process, a supervisor or a ``worker``.

    A worker that replaces another process takes its sockets over, which may listen there still.

    Raises UsageError for a bad ``metrics``, or when what it needs is not installed.
    """
    siblings: list[str] = []  # the other workers' control sockets
    inspector = Inspector("1" if worker is None else str(worker.number))
    made = Observability(inspector, measures_lag=metrics is not None)
    replaces = worker is not None and worker.replaces
    if worker is not None:
        siblings = [f"{worker.control}/{number}.sock" for number in range(1, worker.workers + 1)]
        own = siblings.pop(worker.number - 1)
        control = own if worker.control else None
        metrics = metrics if metrics == "on" or worker.number == 1 else None
    if control is not None:
        if control.startswith("@"):
            text = "--control is a file that this user alone can open, not the abstract socket"
            raise UsageError(f"{text} {control}")
        bind = partial(bind_unix, control, mode=0o600, replace=replaces)
        made.listeners.append((bind, inspector.hook(None)))
    if control_token is not None:
        made.hooks.append(inspector.hook(control_token))
    if metrics is not None:
        hook = _metrics_hook(inspector, siblings)
        if metrics == "on":
            made.hooks.append(hook)
        else:
            made.listeners.append((_metrics_socket(metrics, replaces, bool(siblings)), hook))
    return made


def configure_tracing() -> OpenTelemetry:
    """OpenTelemetry's tracing; log records have the ids of traces from here on. Raises UsageError."""
    try:
        from ..observability.tracing import OpenTelemetry, add_trace
    except ModuleNotFoundError:
        raise UsageError("--tracing needs opentelemetry-api: pip install 'trio-ws-app[tracing]'") from None
    for handler in logging.getLogger().handlers:
        handler.addFilter(add_trace)
    return OpenTelemetry()


def _metrics_hook(inspector: Inspector, siblings: Sequence[str]) -> ProcessRequest:
    try:
        from ..observability.inspection.fetch import gather
        from ..observability.metrics import metrics_hook
    except ModuleNotFoundError:
        raise UsageError("--metrics needs prometheus-client: pip install 'trio-ws-app[metrics]'") from None
    return metrics_hook(partial(gather, inspector, siblings))


def _metrics_socket(where: str, replaces: bool, has_successor: bool) -> Bind:
    """For ``PORT``, ``HOST:PORT`` or ``unix:PATH``."""
    if where.startswith("unix:"):
        return partial(bind_unix, where.removeprefix("unix:"), replace=replaces)
    host, _, port = where.rpartition(":")
    if not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise UsageError(f"--metrics is 'on', PORT, HOST:PORT or unix:PATH, not {where!r}")
    options = "--metrics", "--metrics"
    return partial(bind_tcp, [host or "127.0.0.1"], int(port), reuse_port=has_successor, options=options)


async def serve_admin(
    bind: Bind, hook: ProcessRequest, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Answer what ``hook`` answers, and 404 to all else, where ``bind`` listens, until cancelled."""
    with closing(bind()) as listening:
        start = partial(serve, _unused, listeners=listening.listeners(), process_request=[hook, _not_found])
        async with trio.open_nursery() as nursery:
            await nursery.start(start)
            logger.info("also answering at %s", url_of(listening.sockets[0], "http"))
            task_status.started()


def _not_found(_request: Request) -> Response:
    return Response(404, "there is nothing here\n")


async def _unused(_connection: Connection) -> None:
    """Never called: every request is answered over HTTP."""
