# cython: annotation_typing=False
"""One message for many connections, and the flush that follows: the inner loops of a broadcast."""

from __future__ import annotations

import logging
from typing import Any

from ..connection import Connection
from ..errors import not_a_message
from ..primitives import encode_frame
from ..protocol.frames import Frame, Opcode
from .link import Link
from .overflow import Overflow
from .sending import Sender

logger = logging.getLogger("trio_ws_app.wire")

_TEXT, _BINARY = int(Opcode.TEXT), int(Opcode.BINARY)
_LATEST = Overflow.LATEST


class Receiver:
    """A connection with an overflow policy of its own: a member of a registry."""

    def __init__(self, connection: Connection, overflow: Overflow) -> None:
        self.connection = connection
        self.overflow = overflow  # what happens to a broadcast that the connection's queue has no room for
        self._sender = _sender_of(connection)


def queue_on_all(
    connections: list[Any], message: object, key: object = None, only_if_idle: bool = False
) -> tuple[Frame, list[int]]:
    """Queue a message on every connection that simply takes its frame.

    With ``only_if_idle``, one that has something queued does not. Returns the uncompressed frame, and the
    places of the others, which need more: no link, not open, compressed, or full. Raises TypeError
    for what is no message.
    """
    frame = _frame(message, key)
    rest: list[int] = []
    for place in range(len(connections)):
        if not _takes_simply(_sender_of(connections[place]), frame, only_if_idle):
            rest.append(place)
    return frame, rest


def queue_on_receivers(receivers: list[Any], message: object, key: object = None) -> tuple[Frame, list[int]]:
    """As ``queue_on_all``, with ``only_if_idle`` for those whose policy is ``latest``."""
    frame = _frame(message, key)
    rest: list[int] = []
    for place in range(len(receivers)):
        receiver: Receiver = receivers[place]
        if not _takes_simply(receiver._sender, frame, receiver.overflow is _LATEST):
            rest.append(place)
    return frame, rest


def _sender_of(connection: object) -> Sender | None:
    """The sender of one of our own connections, None of others."""
    if not isinstance(connection, Link):
        return None
    link: Link = connection
    return link.sender


def _frame(message: object, key: object) -> Frame:
    if isinstance(message, str):
        frame = Frame(encode_frame(_TEXT, message.encode()))
    elif isinstance(message, (bytes, bytearray, memoryview)):
        frame = Frame(encode_frame(_BINARY, bytes(message)))
    else:
        raise not_a_message(message)
    if key is not None:
        frame.key = key
    return frame


def _takes_simply(sender: Sender | None, frame: Any, only_if_idle: bool) -> bool:
    if sender is None or sender.deflate is not None or not sender.outbox.shared:
        return False
    if only_if_idle and not sender.outbox.is_empty():
        return False
    return Sender.offer(sender, frame)


def flush(senders: list[Any]) -> bool:
    """Flush ``senders``; whether a task may have been woken by that, or a deadline set."""
    concerned = False
    for flushed in senders:
        sender: Sender = flushed
        try:
            if Sender.flush(sender):
                concerned = True
        except Exception:
            # One connection's failure is one connection's failure (G5), also when it is ours.
            logger.exception("a connection failed in its flush and is aborted")
            sender.failed()
            concerned = True
    return concerned
