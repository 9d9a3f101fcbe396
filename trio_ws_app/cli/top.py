"""``trio-ws-app top``: a live view of a running server, or one snapshot for scripts."""

from __future__ import annotations

from typing import Any

import click

from ..observability.inspection.rows import SORTS
from .options import FloatRange, IntRange, variable

_EXAMPLES = """\b
Examples:
  trio-ws-app serve --control app.sock          the server, with a control socket
  trio-ws-app top app.sock                      watch it while it runs
  trio-ws-app top app.sock --once --json        one snapshot, for scripts
  trio-ws-app top http://10.0.0.7:8765 --token SECRET
"""


@click.command("top", epilog=_EXAMPLES)
@click.argument("where", nargs=-1, required=True)
@click.option(
    "--token", envvar=variable("control_token"), help="What the server was given as --control-token."
)
@click.option(
    "--sort", type=click.Choice(list(SORTS)), default="queued", help="What comes first.", show_default=True
)
@click.option("--filter", "text", default="", help="Only connections with this in id, address or path.")
@click.option("--limit", type=IntRange(0), help="Only so many connections of each process.")
@click.option(
    "--interval", type=FloatRange(0.1), default=1.0, help="Seconds between snapshots.", show_default=True
)
@click.option("--once", is_flag=True, help="Print one snapshot.")
@click.option("--json", "as_json", is_flag=True, help="With --once: everything as JSON, one process a line.")
def top_command(**values: Any) -> None:
    """Look into a running server: its rates, its slow peers, its tasks and where they wait.

    WHERE is the socket that the server was given with --control, a directory of such sockets, or the server's
    http:// address together with its --token. In the view: s sorts, / filters, t shows the tasks, q quits.
    """
    from .looking import look

    look(**values)
