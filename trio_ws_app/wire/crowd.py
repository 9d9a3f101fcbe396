"""One message for many links, and the flush that follows: the inner loops of a broadcast.

A crowd that has been quiet for a while is in none of the processor's caches, and fetching it would cost more
than the work itself. So both loops have what they need next fetched while they work on what comes before.

Plain Python that Cython also compiles: the C types, and the fetching, are in ``crowd.pxd``.
"""

from __future__ import annotations

import logging
from typing import Any

import cython

from ..errors import not_a_message
from ..protocol.closing import State
from ..protocol.frames import Frame, Opcode
from .outgoing import Outgoing
from .writing import Unwritten, Writing

logger = logging.getLogger("trio_ws_app.reactor")

if cython.compiled:
    from cython.cimports.trio_ws_app.protocol.frames import encode_frame
else:
    from ..protocol.frames import encode_frame

_OPEN = int(State.OPEN)
_TEXT, _BINARY = int(Opcode.TEXT), int(Opcode.BINARY)


def share(
    connections: list[Any], message: object, key: object = None, idle_only: cython.bint = False
) -> tuple[Frame, list[int]]:
    """Queue a message on every connection that simply takes its frame: the inner loop of a broadcast.

    With ``idle_only`` those that have something queued do not.
    Returns the uncompressed frame, and the places of the others, which want a closer look: no link, not open,
    compressed, or full. Raises TypeError for what is no message.
    """
    frame: Any = Frame(_encode(message))
    if key is not None:
        frame.key = key
    rest: list[int] = []
    place: cython.Py_ssize_t
    for place in range(len(connections)):
        if cython.compiled:
            before_offer(connections, place)
        if not _takes_simply(connections[place], frame, idle_only):
            rest.append(place)
    return frame, rest


@cython.cfunc
def _encode(message: object) -> Any:
    if isinstance(message, str):
        return encode_frame(_TEXT, message.encode())
    if isinstance(message, (bytes, bytearray, memoryview)):
        return encode_frame(_BINARY, bytes(message))
    raise not_a_message(message)


@cython.cfunc
def _takes_simply(connection: Any, frame: Any, idle_only: cython.bint) -> cython.bint:
    if not isinstance(connection, Outgoing):
        return False
    link: Outgoing = connection
    if link.state != _OPEN or link.deflate is not None or (idle_only and link.queued):
        return False
    taken: cython.bint = link._offer(frame)
    return bool(taken)


def flush_some(dirty: Unwritten, limit: cython.Py_ssize_t) -> bool:
    """Flush up to ``limit`` links, the first of ``dirty``.

    Returns whether a task may have been woken by it or a deadline set, or some are left.
    """
    link: Writing
    stirred: cython.bint = False
    for _ in range(limit):
        if dirty.first is None:
            return bool(stirred)
        link = dirty.take()
        if cython.compiled:
            before_flush(dirty.first)
        try:
            if link._flush():
                stirred = True
        except Exception:
            # One connection's bug is one connection's bug (G5), also when it is ours.
            logger.exception("a connection failed in its flush and is aborted")
            link.failed()
            stirred = True
    return bool(stirred or dirty.first is not None)


if cython.compiled:
    from cython.cimports.trio_ws_app.wire.crowd import before_flush, before_offer
