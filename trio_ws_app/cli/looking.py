"""``trio-ws-app top``: asks the servers, and prints or shows what they answer."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import click

from ..errors import UsageError
from ..observability.inspection.fetch import fetch
from ..observability.inspection.snapshot import Query, to_json

_LIVE_LIMIT = 200  # connections of a process that a person looks through


def look(
    *,
    where: tuple[str, ...],
    token: str | None,
    sort: str,
    text: str,
    limit: int | None,
    interval: float,
    once: bool,
    as_json: bool,
) -> None:
    """Print one snapshot of each server, or show them until a key ends it."""
    if as_json and not once:
        raise UsageError("--json needs --once: a live view is for people")
    if not as_json:
        _require_rich()
    if not once and limit is None:
        limit = _LIVE_LIMIT
    places = _places(where)
    query = Query(sort=sort, filter=text, limit=limit, tasks=True)
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
