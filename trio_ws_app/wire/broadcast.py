# cython: annotation_typing=False
"""One message for many connections, and the flush that follows: the inner loops of a broadcast."""

from __future__ import annotations

import logging
from typing import Any

from ..errors import not_a_message
from ..primitives import encode_frame
from ..protocol.frames import Frame, Opcode
from .link import Link
from .sending import Sender

logger = logging.getLogger("trio_ws_app.wire")

_TEXT, _BINARY = int(Opcode.TEXT), int(Opcode.BINARY)


def queue_on_all(
    connections: list[Any], message: object, key: object = None, only_if_idle: bool = False
) -> tuple[Frame, list[int]]:
    """Queue a message on every connection that simply takes its frame.

    With ``only_if_idle``, one that has something queued does not. Returns the uncompressed frame, and the
    places of the others, which need more: no link, not open, compressed, or full. Raises TypeError
    for what is no message.
    """
    frame = Frame(_encode(message))
    if key is not None:
        frame.key = key
    rest: list[int] = []
    for place in range(len(connections)):
        if not _takes_simply(connections[place], frame, only_if_idle):
            rest.append(place)
    return frame, rest


def _encode(message: object) -> bytes:
    if isinstance(message, str):
        return encode_frame(_TEXT, message.encode())
    if isinstance(message, (bytes, bytearray, memoryview)):
        return encode_frame(_BINARY, bytes(message))
    raise not_a_message(message)


def _takes_simply(connection: Any, frame: Any, only_if_idle: bool) -> bool:
    if not isinstance(connection, Link):
        return False
    link: Link = connection
    sender = link.sender
    outbox = sender.outbox
    if not outbox.shared or sender.deflate is not None:
        return False
    if only_if_idle and not outbox.is_empty():
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
