"""The command line: ``trio-ws-app serve``, ``connect``, and what goes with them.

The module of a command has its options alone, and imports what it does when it is called: the help, a
mistake and the other commands need not wait for that.
"""

from __future__ import annotations

import click

from .connect import connect_command
from .errors import OneLineErrors
from .publish import publish_command
from .serve import serve_command
from .token import token_command
from .top import top_command
from .version import show_version

_EXAMPLES = """\b
Examples:
  trio-ws-app serve                      the built-in chat on ws://127.0.0.1:8765
  trio-ws-app serve my.module:handler    your own handler
  trio-ws-app connect ws://127.0.0.1:8765
                                         talk to a server
  trio-ws-app top app.sock               look into a server that has --control app.sock
"""


_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=OneLineErrors, epilog=_EXAMPLES, context_settings=_CONTEXT)
@click.option(
    "--version",
    help="Show the version, whether it is compiled, and what it runs on.",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
)
def main() -> None:
    """A WebSocket application server for Trio: one connection is one nursery."""


main.add_command(serve_command)
main.add_command(connect_command)
main.add_command(top_command)
main.add_command(publish_command)
main.add_command(token_command)
