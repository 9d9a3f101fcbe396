"""``trio-ws-app serve``: its options."""

from __future__ import annotations

import re
from typing import Any

import click

from ..apps import BUILT_IN
from .options import CommandWithSettings, IntRange, header_text, limit, option, settings_options, variable

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


def _mode(text: str) -> int:
    if not re.fullmatch("[0-7]{3,4}", text):
        raise click.BadParameter(f"{text!r} is not a mode, for example 660.")
    return int(text, 8)


@click.command("serve", cls=CommandWithSettings, help=_HELP, epilog=_EXAMPLES)
@click.argument("target", default="chat", envvar=variable("target"))
@option("--asgi", "TARGET is an ASGI application: serve its WebSockets and its HTTP.", is_flag=True)
@option(
    "--host",
    "Address or host name to listen on, or several; 0.0.0.0 for all of IPv4, :: for all of IPv6 as well.",
    default=["127.0.0.1"],
    metavar="HOST",
    multiple=True,
)
@option(
    "--port", "Port to listen on; 0 takes a free one.", default=8765, type=IntRange(0, 65535), metavar="PORT"
)
@option(
    "--unix", "Listen on this Unix socket instead of a port; @NAME for an abstract one.", metavar="PATH"
)
@option("--unix-mode", "Permissions of the Unix socket, such as 660.", metavar="OCTAL", type=_mode)
@option("--unix-owner", "Owner of the Unix socket, as USER, USER:GROUP or :GROUP.", metavar="OWNER")
@option(
    "--user",
    "User to be, by name or number, once the address is bound: before anything else is opened or imported.",
    metavar="USER",
)
@option("--group", "Group to be in; by default that of --user.", metavar="GROUP")
@option(
    "--reuse-port",
    "Let other servers of this user listen on the same port, for instance the next version (SO_REUSEPORT).",
    is_flag=True,
)
@option(
    "--tls-cert",
    "Certificate chain (PEM): serve wss:// instead of ws://. Of several, each with its key, a client gets "
    "the one of the name that it asks for.",
    metavar="FILE",
    multiple=True,
    type=click.Path(),
)
@option(
    "--tls-key",
    "Its private key (PEM), if the chain's file does not hold it.",
    metavar="FILE",
    multiple=True,
    type=click.Path(),
)
@option(
    "--tls-client-ca", "Let in clients with a certificate of this authority (PEM) alone.", metavar="FILE"
)
@option(
    "--tls-minimum-version",
    "Oldest version of TLS that is spoken.",
    default="1.2",
    type=click.Choice(["1.2", "1.3"]),
)
@option("--page/--no-page", "Answer browsers with the built-in app's page.", default=True)
@option("--static", "Answer browsers with the files below this directory.", metavar="DIR")
@option(
    "--log-level",
    "Least level that is logged, on standard error.",
    default="info",
    type=click.Choice(["debug", "info", "warning", "error"]),
)
@option("--log-format", "Form of the log.", default="text", type=click.Choice(["text", "json"]))
@option(
    "--log-file",
    "Log to this file instead; when it is renamed or removed, a new one is begun.",
    metavar="FILE",
)
@option("--control", "Let 'trio-ws-app top' look in through this Unix socket.", metavar="PATH")
@option(
    "--control-token",
    "Let 'trio-ws-app top' look in at /inspect with this token.",
    type=header_text,
    metavar="TOKEN",
)
@option(
    "--metrics",
    "Answer Prometheus at /metrics: 'on' for the server's own port, or PORT, HOST:PORT, unix:PATH.",
    metavar="WHERE",
)
@option(
    "--tracing/--no-tracing",
    "Trace handshakes and messages by OpenTelemetry, whose own variables (OTEL_...) say where to.",
    default=False,
)
@option(
    "--broker",
    "Redis that carries topics between processes: redis://, rediss://, unix:// or redis+sentinel://; "
    "none for no sharing.",
    metavar="URL",
)
@option(
    "--workers",
    "Processes that share the port; more than one need a --broker. --control is then a directory.",
    default=1,
    type=IntRange(1),
    metavar="N",
)
@option(
    "--worker-timeout",
    "A worker whose event loop does not turn for this long is killed and started again; none for never.",
    default="60",
    callback=limit(float | None, "seconds"),
    metavar="SECONDS",
)
@option("--reload", "Start anew when a Python file below the current directory changes.", is_flag=True)
@settings_options
def serve_command(**values: Any) -> int:
    """Read the options, then serve until a signal ends it. Returns the exit status."""
    from .serving import serve

    return serve(**values)
