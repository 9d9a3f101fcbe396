"""One message for many links, and the flush that follows: the inner loops of a broadcast.

A crowd that has been quiet for a while is in none of the processor's caches, and fetching it would cost more
than the work itself. So both loops have what they need next fetched while they work on what comes before.

Plain Python that Cython also compiles: the C types, and the fetching, are in ``crowd.pxd``.
"""

from __future__ import annotations

import logging
from typing import Any

import cython

from ..protocol.closing import State
from ..protocol.frames import Frame
from .outgoing import Outgoing

logger = logging.getLogger("trio_ws_app.reactor")

_OPEN = int(State.OPEN)


def offer_to_all(connections: list[Any], frame: Frame, idle_only: cython.bint = False) -> list[int]:
    """Queue a shared frame on every connection that simply takes it: the inner loop of a broadcast.

    With ``idle_only`` those that have something queued do not.
    Returns the places of the others, which want a closer look: no link, not open, compressed, or full.
    """
    rest: list[int] = []
    place: cython.Py_ssize_t
    for place in range(len(connections)):
        if cython.compiled:
            before_offer(connections, place)
        if not _takes_simply(connections[place], frame, idle_only):
            rest.append(place)
    return rest


@cython.cfunc
def _takes_simply(connection: Any, frame: Any, idle_only: cython.bint) -> cython.bint:
    if not isinstance(connection, Outgoing):
        return False
    link: Outgoing = connection
    if link.state != _OPEN or link.deflate is not None or (idle_only and link.queued):
        return False
    taken: cython.bint = link._offer(frame)
    return bool(taken)


def flush_all(links: list[Any]) -> bool:
    """Flush every link; whether a task may have been woken by it or a deadline set."""
    link: Outgoing
    stirred: cython.bint = False
    place: cython.Py_ssize_t
    for place in range(len(links)):
        if cython.compiled:
            before_flush(links, place)
        link = links[place]
        try:
            if link._flush():
                stirred = True
        except Exception:
            # One connection's bug is one connection's bug (G5), also when it is ours.
            logger.exception("a connection failed in its flush and is aborted")
            link.failed()
            stirred = True
    return bool(stirred)


if cython.compiled:
    from cython.cimports.trio_ws_app.wire.crowd import before_flush, before_offer
