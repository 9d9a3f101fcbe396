"""``trio-ws-app serve``: options in, a running server, one line on standard output when it listens."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
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
from .init import leave_process_1
from .listeners import Listening, bind_tcp, bind_unix
from .log_output import LogFile, LogWriter
from .log_output import configure as configure_logging
from .options import Command, CommandWithSettings, IntRange, limit, settings_options, variable
from .privileges import Owner, become, identity, parse_owner
from .process import keep_large_buffers
from .reload import inherited_lifeline, restart_on_change
from .run import run
from .shutdown import Shutdown
from .supervisor import MARGIN
from .systemd import Notifier, activated_sockets
from .tls import VERSIONS
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


def _mode(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch("[0-7]{3,4}", text):
        raise click.BadParameter(f"{text!r} is not a mode, for example 660.")
    return int(text, 8)


def _option(name: str, text: str, **attributes: Any) -> Callable[[Command], Command]:
    field = name.partition("/")[0].removeprefix("--").replace("-", "_")
    return click.option(name, help=text, envvar=variable(field), show_default=True, **attributes)


@click.command("serve", cls=CommandWithSettings, help=_HELP, epilog=_EXAMPLES)
@click.argument("target", default="chat", envvar=variable("target"))
@_option("--asgi", "TARGET is an ASGI application: serve its WebSockets and its HTTP.", is_flag=True)
@_option(
    "--host",
    "Address or host name to listen on, or several; 0.0.0.0 for all of IPv4, :: for all of IPv6 as well.",
    default=["127.0.0.1"],
    metavar="HOST",
    multiple=True,
)
@_option(
    "--port",
    "Port to listen on; 0 takes a free one.",
    default=8765,
    type=IntRange(0, 65535),
    metavar="PORT",
)
@_option(
    "--unix", "Listen on this Unix socket instead of a port; @NAME for an abstract one.", metavar="PATH"
)
@_option("--unix-mode", "Permissions of the Unix socket, such as 660.", metavar="OCTAL", callback=_mode)
@_option("--unix-owner", "Owner of the Unix socket, as USER, USER:GROUP or :GROUP.", metavar="OWNER")
@_option(
    "--user",
    "User to be, by name or number, once the address is bound: before anything else is opened or imported.",
    metavar="USER",
)
@_option("--group", "Group to be in; by default that of --user.", metavar="GROUP")
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
@_option(
    "--log-file",
    "Log to this file instead; when it is renamed or removed, a new one is begun.",
    metavar="FILE",
)
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
    type=IntRange(1),
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
def serve_command(
    *,
    reload: bool,
    host: Sequence[str],
    port: int,
    unix: str | None,
    unix_mode: int | None,
    unix_owner: str | None,
    reuse_port: bool,
    user: str | None,
    group: str | None,
    log_level: str,
    log_format: str,
    log_file: str | None,
    **values: Any,
) -> int:
    """Read the options, then serve until a signal ends it. Returns the exit status."""
    leave_process_1()
    shutdown, worker, activated = Shutdown(), inherited(), activated_sockets()
    lifeline = inherited_lifeline() if worker is None else worker.lifeline
    shutdown.install(supervised=lifeline is not None)
    if lifeline is not None:
        shutdown.end_with(lifeline)
    if reload:
        restart_on_change(sys.argv[1:], Path.cwd(), shutdown)
        return 0
    _expect_one_place(click.get_current_context(), activated is not None)
    me = identity(user, group) if worker is None else None
    if worker is not None:
        listening = Listening(worker.sockets, are_shared=True)
    elif activated is not None:
        listening = Listening(activated, are_shared=True)
    elif unix is not None:
        listening = _bind_unix(unix, unix_mode, unix_owner, me)
    else:
        listening = bind_tcp(host, port, reuse_port=reuse_port)
    with listening:
        if me is not None:
            become(me)
        notifier, log = Notifier(), LogWriter(file=None if log_file is None else LogFile(log_file))
        configure_logging(log_level, log_format, log, None if worker is None else worker.number)
        config = configure(worker, listening, **values)
        status = _run(config, shutdown, notifier, log, lifeline is not None)
        shutdown.finish(status)
        return status


def _bind_unix(path: str, mode: int | None, owner: str | None, me: Owner | None) -> Listening:
    if owner is None:
        return bind_unix(path, mode, None if path.startswith("@") else me)
    return bind_unix(path, mode, parse_owner("--unix-owner", owner))


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
    for name in ("unix_mode", "unix_owner"):
        if context.params["unix"] is None and context.params[name] is not None:
            raise UsageError(f"--{name.replace('_', '-')} needs --unix as well")


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
