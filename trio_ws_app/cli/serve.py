"""``trio-ws-app serve``: options in, a running server, one line on standard output when it listens."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import trio
from click.core import ParameterSource

from ..apps import BUILT_IN
from ..errors import UsageError
from .configuration import Configuration, configure
from .failure import exit_status
from .inherited import inherited
from .log_output import LogWriter
from .log_output import configure as configure_logging
from .options import Command, CommandWithSettings, limit, settings_options, variable
from .process import keep_large_buffers
from .reload import inherited_lifeline, restart_on_change
from .run import run
from .shutdown import Shutdown
from .supervisor import MARGIN
from .systemd import Notifier, activated_sockets
from .tls import VERSIONS
from .version import report_missing_extensions
from .workers import run_workers

_HELP = f"""Serve TARGET until a signal ends it.

TARGET is package.module:name or a built-in app: {", ".join(BUILT_IN)} (default: chat). The name is a
handler (async def), an App or, for an application with state, a function that returns an async context
manager whose value is one of these; a parameter named broker gets the one of --broker. With --asgi it
is an ASGI application (FastAPI, Starlette, Quart-Trio). Modules are looked for in the current directory
first.

Every option can be given as a variable as well: TRIO_WS_APP_PORT for --port.
"""

_EXAMPLES = """\b
Examples:
  trio-ws-app serve
  trio-ws-app serve echo --port 9000 --compression
  trio-ws-app serve my.module:handler --reload
  trio-ws-app serve --host 0.0.0.0 --tls-cert chain.pem --tls-key key.pem
  trio-ws-app serve --asgi my.module:app
  trio-ws-app serve --workers 4 --broker redis://localhost:6379
"""


def _option(name: str, text: str, **attributes: Any) -> Callable[[Command], Command]:
    field = name.partition("/")[0].removeprefix("--").replace("-", "_")
    return click.option(name, help=text, envvar=variable(field), show_default=True, **attributes)


@click.command("serve", cls=CommandWithSettings, help=_HELP, epilog=_EXAMPLES)
@click.argument("target", default="chat", envvar=variable("target"))
@_option("--asgi", "TARGET is an ASGI application: serve its WebSockets and its HTTP.", is_flag=True)
@_option(
    "--host",
    "Address or host name to listen on; 0.0.0.0 for all of IPv4.",
    default="127.0.0.1",
    metavar="HOST",
)
@_option(
    "--port",
    "Port to listen on; 0 takes a free one.",
    default=8765,
    type=click.IntRange(0, 65535),
    metavar="PORT",
)
@_option("--unix", "Listen on this Unix socket instead of a port.", metavar="PATH")
@_option(
    "--reuse-port",
    "Let other servers of this user listen on the same port, for instance the next version (SO_REUSEPORT).",
    is_flag=True,
)
@_option(
    "--tls-cert",
    "Certificate chain (PEM): serve wss:// instead of ws://. Of several, each with its key, a client gets "
    "the one of the name that it asks for.",
    metavar="FILE",
    multiple=True,
    type=click.Path(),
)
@_option(
    "--tls-key",
    "Its private key (PEM), if the chain's file does not hold it.",
    metavar="FILE",
    multiple=True,
    type=click.Path(),
)
@_option(
    "--tls-client-ca",
    "Let in clients with a certificate of this authority (PEM) alone.",
    metavar="FILE",
)
@_option(
    "--tls-minimum-version",
    "Oldest version of TLS that is spoken.",
    default="1.2",
    type=click.Choice([*VERSIONS]),
)
@_option("--page/--no-page", "Answer browsers with the built-in app's page.", default=True)
@_option("--static", "Answer browsers with the files below this directory.", metavar="DIR")
@_option(
    "--log-level",
    "Least level that is logged, on standard error.",
    default="info",
    type=click.Choice(["debug", "info", "warning", "error"]),
)
@_option("--log-format", "Form of the log.", default="text", type=click.Choice(["text", "json"]))
@_option("--control", "Let 'trio-ws-app top' look in through this Unix socket.", metavar="PATH")
@_option("--control-token", "Let 'trio-ws-app top' look in at /inspect with this token.", metavar="TOKEN")
@_option(
    "--metrics",
    "Answer Prometheus at /metrics: 'on' for the server's own port, or PORT, HOST:PORT, unix:PATH.",
    metavar="WHERE",
)
@_option(
    "--tracing/--no-tracing",
    "Trace handshakes and messages by OpenTelemetry, whose own variables (OTEL_...) say where to.",
    default=False,
)
@_option(
    "--broker",
    "Redis that carries topics between processes: redis://, rediss://, unix:// or redis+sentinel://; "
    "none for no sharing.",
    metavar="URL",
)
@_option(
    "--workers",
    "Processes that share the port; more than one need a --broker. --control is then a directory.",
    default=1,
    type=click.IntRange(1),
    metavar="N",
)
@_option(
    "--worker-timeout",
    "A worker whose event loop does not turn for this long is killed and started again; none for never.",
    default="60",
    callback=limit(float | None, "seconds"),
    metavar="SECONDS",
)
@_option("--reload", "Start anew when a Python file below the current directory changes.", is_flag=True)
@settings_options
def serve_command(*, reload: bool, log_level: str, log_format: str, **values: Any) -> int:
    """Read the options, then serve until a signal ends it. Returns the exit status."""
    shutdown, worker, activated = Shutdown(), inherited(), activated_sockets()
    lifeline = inherited_lifeline() if worker is None else worker.lifeline
    shutdown.install(supervised=lifeline is not None)
    if lifeline is not None:
        shutdown.end_with(lifeline)
    if reload:
        restart_on_change(sys.argv[1:], Path.cwd(), shutdown)
        return 0
    notifier, log = Notifier(), LogWriter()
    configure_logging(log_level, log_format, log, None if worker is None else worker.number)
    if worker is None:
        report_missing_extensions()
    _expect_one_place(click.get_current_context(), activated is not None)
    config = configure(worker, activated=activated, **values)
    status = _run(config, shutdown, notifier, log, lifeline is not None)
    shutdown.finish(status)
    return status


def _expect_one_place(context: click.Context, is_activated: bool) -> None:
    given = [
        f"--{name}"
        for name in ("host", "port", "unix")
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    ]
    if is_activated and given:
        raise UsageError(f"{given[-1]}: leave it out, since systemd has passed the sockets to listen on")
    if context.params["unix"] is not None and len(given) > 1:
        given.remove("--unix")
        raise UsageError(f"{given[-1]} and --unix exclude each other: give the one to listen on")


def _run(
    config: Configuration, shutdown: Shutdown, notifier: Notifier, log: LogWriter, supervised: bool
) -> int:
    grace_period = config.settings.grace_period
    if config.workers > 1 and config.worker is None:
        shutdown.hold(grace_period, margin=2 * MARGIN)
        shutdown.reloads = True
        return trio.run(run_workers, config, shutdown, notifier, sys.argv[1:])
    shutdown.hold(grace_period)
    shutdown.reloads = config.certificates is not None and config.worker is None and not supervised
    keep_large_buffers()
    try:
        trio.run(run, config, shutdown, notifier, log)
    except BaseException as error:
        log.flush()
        return exit_status(error, config.target)
    return 0
