"""The command line: ``trio-ws-app serve``, ``connect``, and what goes with them.

The module of a command has its options, and imports what the command needs besides when it is called: the
help, a mistake and the other commands need not wait for that.
"""

from __future__ import annotations

import platform

import click
import trio

from ..primitives import COMPILED
from .connect import connect_command
from .errors import PROGRAM, OneLineErrors
from .publish import publish_command
from .serve import serve_command
from .token import token_command
from .top import top_command

_EXAMPLES = """\b
Examples:
  trio-ws-app serve                      the built-in chat on ws://127.0.0.1:8765
  trio-ws-app serve my.module:handler    your own handler
  trio-ws-app connect ws://127.0.0.1:8765
                                         talk to a server
  trio-ws-app top app.sock               look into a server that has --control app.sock
"""

_VERSION = (
    f"{PROGRAM} %(version)s, {'compiled' if COMPILED else 'not compiled'}, "
    f"{platform.python_implementation()} {platform.python_version()}, Trio {trio.__version__}, "
    f"{platform.system()} {platform.machine()}"
)
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=OneLineErrors, epilog=_EXAMPLES, context_settings=_CONTEXT)
@click.version_option(
    package_name=PROGRAM,
    message=_VERSION,
    help="Show the version, whether it is compiled, and what it runs on.",
)
def main() -> None:
    """A WebSocket application server for Trio: one connection is one nursery."""


for command in (serve_command, connect_command, top_command, publish_command, token_command):
    main.add_command(command)
