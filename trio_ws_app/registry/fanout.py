"""One message to many connections: encoded once, queued everywhere, without waiting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum

import attrs
import trio

from ..connection import Connection, Message
from ..errors import ConnectionClosed
from ..protocol.closing import State
from ..protocol.deflate import deflate_once
from ..protocol.frames import Frame, Opcode, encode_frame
from ..wire.broadcast import Receiver, queue_on_all, queue_on_receivers
from ..wire.connection import WireConnection
from ..wire.overflow import Overflow


class Outcome(StrEnum):
    """What became of one message for one connection."""

    SENT = "sent"
    DROPPED = "dropped"
    DISCONNECTED = "disconnected"
    CLOSED = "closed"


@attrs.frozen
class BroadcastResult:
    """How many connections one broadcast was sent to, was dropped for, and disconnected."""

    sent: int = 0
    dropped: int = 0
    disconnected: int = 0


class Encoded:
    """A message that is encoded at most once per wire form, however many connections share it.

    ``plain`` is its frame for peers that have not negotiated compression.
    """

    __slots__ = ("_compressed", "_payload", "message", "plain")

    def __init__(self, message: Message, plain: Frame) -> None:
        self.message = message
        self.plain = plain
        self._payload = message.encode() if isinstance(message, str) else bytes(message)
        self._compressed: dict[int, Frame] = {}  # by the bits of the window

    def frame(self, connection: WireConnection) -> Frame:
        """The frame that fits what ``connection`` has negotiated."""
        deflate = connection.sender.deflate
        if deflate is None or len(self._payload) < connection.settings.compression_threshold:
            return self.plain
        deflate.restart()
        window = deflate.parameters.server_max_window_bits
        if window not in self._compressed:
            payload = deflate_once(deflate.parameters, self._payload)
            opcode = Opcode.TEXT if isinstance(self.message, str) else Opcode.BINARY
            frame = self._compressed[window] = Frame(encode_frame(opcode, payload, rsv1=True))
            frame.key = self.plain.key
        return self._compressed[window]


def send_encoded(connection: Connection, encoded: Encoded, overflow: Overflow) -> Outcome:
    """Queue a shared message on one connection, as its overflow policy says."""
    if not isinstance(connection, WireConnection):
        return _send_foreign(connection, encoded)
    if connection.closing.state != State.OPEN:
        return Outcome.CLOSED
    frame = encoded.frame(connection)
    if overflow is Overflow.LATEST and connection.queued and connection.shared_frames.replace_latest(frame):
        _count_drops(connection, overflow, 1)
        return Outcome.DROPPED
    if connection.sender.offer(frame):
        return Outcome.SENT
    if overflow is Overflow.DROP_OLDEST:
        _count_drops(connection, overflow, connection.shared_frames.drop_oldest(len(frame)))
        if connection.sender.offer(frame):
            return Outcome.SENT
    _count_drops(connection, overflow, 1)
    if overflow is Overflow.DISCONNECT:
        connection.disconnect_slow()
        return Outcome.DISCONNECTED
    return Outcome.DROPPED


def _count_drops(connection: WireConnection, overflow: Overflow, count: int) -> None:
    connection.dropped += count
    connection.engine.drops[overflow.value] += count


def _send_foreign(connection: Connection, encoded: Encoded) -> Outcome:
    """For adapted connections, which have no queue of ours: what does not fit is lost."""
    try:
        connection.send_nowait(encoded.message)
    except trio.WouldBlock:
        return Outcome.DROPPED
    except (ConnectionClosed, trio.ClosedResourceError):
        return Outcome.CLOSED
    return Outcome.SENT


def broadcast(connections: Iterable[Connection], message: Message) -> BroadcastResult:
    """Send ``message`` to every connection without waiting for any (G10).

    A connection whose queue is full is closed with 1013. Connections that are closing are passed over.
    Returns how many it was sent to, dropped for, and disconnected. Raises TypeError for what is no
    message, before anything is sent.
    """
    receivers = list(connections)
    plain, rest = queue_on_all(receivers, message)
    others = [(receivers[place], Overflow.DISCONNECT) for place in rest]
    return _send_to_others(message, plain, others, len(receivers) - len(rest))


def send_to_members(
    members: Collection[Receiver], message: Message, key: object = None, exclude: Collection[object] = ()
) -> BroadcastResult:
    """Send a shared message to the members that are not in ``exclude``, nor their connections."""
    hash(key)  # TypeError for what is no key, before anything is sent
    receivers = list(members)
    if exclude:
        receivers = [one for one in members if one not in exclude and one.connection not in exclude]
    plain, rest = queue_on_receivers(receivers, message, key)
    others = [(receivers[place].connection, receivers[place].overflow) for place in rest]
    return _send_to_others(message, plain, others, len(receivers) - len(rest))


def _send_to_others(
    message: Message, plain: Frame, others: Sequence[tuple[Connection, Overflow]], sent: int
) -> BroadcastResult:
    """Send to those that did not simply take the frame; ``sent`` is how many did."""
    if not others:
        return BroadcastResult(sent)
    encoded = Encoded(message, plain)
    counts = Counter(send_encoded(connection, encoded, overflow) for connection, overflow in others)
    return BroadcastResult(sent + counts[Outcome.SENT], counts[Outcome.DROPPED], counts[Outcome.DISCONNECTED])
