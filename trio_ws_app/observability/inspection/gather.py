"""What all processes of one server look like, for a scrape that reaches only one of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import trio

from ...errors import UsageError
from .fetch import fetch
from .hook import Inspector
from .snapshot import Query, Snapshot

logger = logging.getLogger("trio_ws_app.metrics")

_COUNTS_ONLY = Query(limit=0)


async def gather(inspector: Inspector, siblings: Sequence[str]) -> list[Snapshot]:
    """This process's counts and those of its siblings, which answer on these control sockets.

    One that does not answer, because it is starting anew, is left out.
    """
    own = inspector.snapshot(_COUNTS_ONLY)
    found = [] if own is None else [own]

    async def ask(path: str) -> None:
        try:
            found.append(
                await trio.to_thread.run_sync(partial(fetch, path, _COUNTS_ONLY), abandon_on_cancel=True)
            )
        except UsageError as problem:
            logger.debug("a worker is left out: %s", problem)

    async with trio.open_nursery() as nursery:
        for path in siblings:
            nursery.start_soon(ask, path)
    return sorted(found, key=lambda snapshot: snapshot.worker)
