"""``trio-ws-app serve``: options in, a running server, one line on standard output when it listens."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from socket import AF_UNIX
from ssl import SSLContext
from typing import Any

import attrs
import click
import trio

from .. import logs
from ..apps import BUILT_IN
from ..errors import UsageError
from ..pages import Hook, first_of, page_for, static_files
from ..server.contain import Handler
from ..server.server import Server, serve
from ..settings import Settings
from .listeners import place, tcp_listeners, unix_listener
from .options import Command, CommandWithSettings, settings_from, settings_options, variable
from .reload import supervise
from .run import run
from .target import Application, load
from .tls import server_context

_HELP = f"""Serve TARGET until a signal ends it.

TARGET is package.module:name or a built-in app: {", ".join(BUILT_IN)} (default: chat). The name is a
handler (async def) or, for an application with state, a function that returns an async context
manager whose value is the handler. Modules are looked for in the current directory first.

Every option can be given as a variable as well: TRIO_WS_APP_PORT for --port.
"""

_EXAMPLES = """\b
Examples:
  trio-ws-app serve
  trio-ws-app serve echo --port 9000 --compression
  trio-ws-app serve my.module:handler --reload
  trio-ws-app serve --host 0.0.0.0 --tls-cert chain.pem --tls-key key.pem
"""


@attrs.frozen(kw_only=True)
class Plan:
    """What ``serve`` is going to do, with every mistake in the options already found."""

    application: Application
    listeners: AbstractAsyncContextManager[list[trio.SocketListener]]
    settings: Settings
    ssl_context: SSLContext | None
    hooks: list[Hook]


def _option(name: str, text: str, **attributes: Any) -> Callable[[Command], Command]:
    field = name.partition("/")[0].removeprefix("--").replace("-", "_")
    return click.option(name, help=text, envvar=variable(field), show_default=True, **attributes)


@click.command("serve", cls=CommandWithSettings, help=_HELP, epilog=_EXAMPLES)
@click.argument("target", default="chat", envvar=variable("target"))
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
@_option("--tls-cert", "Certificate chain (PEM): serve wss:// instead of ws://.", metavar="FILE")
@_option("--tls-key", "Its private key (PEM), where the chain's file does not hold it.", metavar="FILE")
@_option("--page/--no-page", "Answer browsers with the built-in app's page.", default=True)
@_option("--static", "Answer browsers with the files below this directory.", metavar="DIR")
@_option(
    "--log-level",
    "Least level that is logged, on standard error.",
    default="info",
    type=click.Choice(["debug", "info", "warning", "error"]),
)
@_option("--log-format", "Form of the log.", default="text", type=click.Choice(["text", "json"]))
@_option("--reload", "Start anew when a Python file below the current directory changes.", is_flag=True)
@settings_options
def serve_command(*, reload: bool, log_level: str, log_format: str, **values: Any) -> None:
    """Read the options, then serve until a signal ends it."""
    if reload:
        supervise(sys.argv[1:], Path.cwd())
    else:
        logs.configure(log_level, log_format)
        trio.run(_serve, _plan(**values))


def _plan(
    *,
    target: str,
    host: str,
    port: int,
    unix: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    page: bool,
    static: str | None,
    **limits: Any,
) -> Plan:
    hooks: list[Hook] = []
    if static is not None:
        if not Path(static).is_dir():
            raise UsageError(f"--static: there is no directory {static}")
        hooks.append(static_files(static))
    elif page and target in BUILT_IN:
        hooks.append(page_for(target))
    return Plan(
        application=load(target),
        listeners=tcp_listeners(host, port) if unix is None else unix_listener(unix),
        settings=settings_from(limits),
        ssl_context=server_context(tls_cert, tls_key),
        hooks=hooks,
    )


async def _serve(plan: Plan) -> None:
    async with plan.listeners as listeners:

        def announce() -> None:
            tls = "s" if plan.ssl_context else ""
            click.echo(f"listening on {place(listeners, f'ws{tls}')}")
            if plan.hooks and listeners[0].socket.family != AF_UNIX:
                click.echo(f"page at {place(listeners, f'http{tls}')}/")
            sys.stdout.flush()

        async def start(nursery: trio.Nursery, handler: Handler) -> Server:
            options = partial(
                serve,
                handler,
                listeners=listeners,
                ssl_context=plan.ssl_context,
                settings=plan.settings,
                process_request=first_of(*plan.hooks) if plan.hooks else None,
            )
            server: Server = await nursery.start(options)
            return server

        await run(plan.application, start, announce)
