"""One message for many links, and the flush that follows: the inner loops of a broadcast.

Plain Python that Cython also compiles: the C types are in ``crowd.pxd``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import cython

from ..protocol.closing import State
from ..protocol.frames import Frame
from .outgoing import Outgoing

logger = logging.getLogger("trio_ws_app.reactor")

_OPEN = int(State.OPEN)


def offer_to_all(connections: list[Any], frame: Frame) -> list[Any]:
    """Queue a shared frame on every connection that simply takes it: the inner loop of a broadcast.

    Returns the others, which want a closer look: not a link of ours, not open, compressed, or full.
    """
    rest: list[Any] = []
    for connection in connections:
        if not _takes_simply(connection, frame, False):
            rest.append(connection)
    return rest


def offer_to_members(members: Sequence[Any], frame: Frame, latest: object) -> list[Any]:
    """As ``offer_to_all``, for whatever has a ``connection`` and an ``overflow``.

    Returns also those whose policy is ``latest`` and whose connection has something queued.
    """
    rest: list[Any] = []
    for member in members:
        if not _takes_simply(member.connection, frame, member.overflow is latest):
            rest.append(member)
    return rest


@cython.cfunc
def _takes_simply(connection: Any, frame: Any, first_only: cython.bint) -> cython.bint:
    if not isinstance(connection, Outgoing):
        return False
    link: Outgoing = connection
    if link.state != _OPEN or link.deflate is not None or (first_only and link.queued):
        return False
    taken: cython.bint = link._offer(frame)
    return bool(taken)


def flush_all(links: list[Any]) -> bool:
    """Flush every link; whether a task may have been woken by it or a deadline set."""
    link: Outgoing
    stirred: cython.bint = False
    for link in links:
        try:
            if link._flush():
                stirred = True
        except Exception:
            # One connection's bug is one connection's bug (G5), also when it is ours.
            logger.exception("a connection failed in its flush and is aborted")
            link.failed()
            stirred = True
    return bool(stirred)
