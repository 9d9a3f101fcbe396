"""``trio-ws-app top``: a live view of a running server, or one snapshot for scripts."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import click

from ..errors import UsageError
from ..observability.inspection.rows import SORTS
from .options import CommandWithVariables, FloatRange, IntRange, header_text, text, variable

_LIVE_LIMIT = 200  # connections of a process that a person looks through
_EXAMPLES = """\b
Examples:
  trio-ws-app serve --control app.sock          the server, with a control socket
  trio-ws-app top app.sock                      watch it while it runs
  trio-ws-app top app.sock --once --json        one snapshot, for scripts
  trio-ws-app top http://10.0.0.7:8765 --token SECRET
"""


@click.command("top", cls=CommandWithVariables, epilog=_EXAMPLES)
@click.argument("where", nargs=-1, required=True)
@click.option(
    "--token",
    envvar=variable("control_token"),
    type=header_text,
    metavar="TEXT",
    help="What the server was given as --control-token.",
)
@click.option(
    "--sort", type=click.Choice(list(SORTS)), default="queued", help="What comes first.", show_default=True
)
@click.option(
    "--filter", "wanted", type=text, default="", help="Only connections with this in id, address or path."
)
@click.option("--limit", type=IntRange(0), help="Only so many connections of each process.")
@click.option(
    "--interval", type=FloatRange(0.1), default=1.0, help="Seconds between snapshots.", show_default=True
)
@click.option("--once", is_flag=True, help="Print one snapshot.")
@click.option("--json", "as_json", is_flag=True, help="With --once: everything as JSON, one process a line.")
def top_command(
    where: tuple[str, ...],
    token: str | None,
    sort: str,
    wanted: str,
    limit: int | None,
    interval: float,
    once: bool,
    as_json: bool,
) -> None:
    """Look into a running server: its rates, its slow peers, its tasks and where they wait.

    WHERE is the socket that the server was given with --control, a directory of such sockets, or the server's
    http:// address together with its --token. In the view: s sorts, / filters, t shows the tasks, q quits.
    """
    from ..observability.inspection.fetch import fetch
    from ..observability.inspection.snapshot import Query, to_json

    if as_json and not once:
        raise UsageError("--json needs --once: a live view is for people")
    if not as_json:
        _require_rich()
    if not once and limit is None:
        limit = _LIVE_LIMIT
    places = _places(where)
    query = Query(sort=sort, filter=wanted, limit=limit, tasks=True)
    if once:
        snapshots = [fetch(place, query, token) for place in places]
        if as_json:
            for snapshot in snapshots:
                click.echo(to_json(snapshot))
        else:
            from .top_view import print_once

            print_once(snapshots)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        from .top_live import watch

        watch(partial(_places, where), token, query, interval)
    else:
        raise UsageError("the live view needs a terminal: use --once, or --once --json")


def _places(where: tuple[str, ...]) -> list[str]:
    """The sockets and addresses to ask; a directory stands for the sockets in it."""
    places: list[str] = []
    for place in where:
        if os.path.isdir(place):
            places += _sockets(Path(place))
        else:
            places.append(place)
    if not places:
        raise UsageError(f"there is no control socket in {' '.join(where)}")
    return places


def _sockets(directory: Path) -> list[str]:
    try:
        return sorted(str(path) for path in directory.iterdir() if path.is_socket())
    except OSError as problem:
        raise UsageError(f"cannot look for control sockets in {directory}: {problem.strerror}") from None


def _require_rich() -> None:
    try:
        import rich  # noqa: F401  # only whether it is there
    except ModuleNotFoundError:
        raise UsageError(
            "top needs rich: pip install 'trio-ws-app[top]'; --once --json works without"
        ) from None
