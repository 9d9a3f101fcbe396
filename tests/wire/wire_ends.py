"""A link on a transport that takes as many bytes as the test allows, and the frames that a client saw."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate as WebsocketsDeflate
from websockets.frames import Frame
from websockets.protocol import State
from websockets.uri import parse_uri

from trio_ws_app.primitives import BLOCKED, LOST
from trio_ws_app.protocol.deflate import DeflateParameters, PerMessageDeflate
from trio_ws_app.request import Request
from trio_ws_app.settings import Settings
from trio_ws_app.wire.connection import WireConnection
from trio_ws_app.wire.engine import open_engine
from trio_ws_app.wire.outbox import Outbox
from trio_ws_app.wire.transport import Transport


class ScriptedTransport(Transport):
    """Takes ``room`` bytes, then would block; keeps what it took. Gives what is in ``arrived``.

    ``lost``: it can send nothing more, and has nothing to give besides what has arrived.
    """

    def __init__(self, room: int = 1 << 30, vectored: bool = True) -> None:
        super().__init__()
        self.vectored = vectored
        self.room = room
        self.taken = b""
        self.arrived = b""
        self.lost = False
        self.closed = ""
        self.watched = (True, False)  # for reading, for writing
        self.limits: list[float | None] = []  # for what is not acknowledged

    def send(self, data: bytes | memoryview) -> int:
        if self.lost:
            return LOST
        if not self.room:
            return BLOCKED
        size = min(len(data), self.room)
        self.room -= size
        self.taken += bytes(data[:size])
        return size

    def recv_into(self, buffer: bytearray, size: int) -> int:
        data, self.arrived = self.arrived[:size], self.arrived[size:]
        buffer[: len(data)] = data
        return len(data) or (LOST if self.lost else BLOCKED)

    def watch(self, read: bool, write: bool) -> None:
        self.watched = (read, write)

    def limit_unacknowledged(self, seconds: float | None) -> None:
        self.limits.append(seconds)

    def send_eof(self, peer_is_done: bool = False) -> bool:  # noqa: ARG002  # a transport's signature
        return False

    def close(self, abort: bool = False) -> None:
        self.closed = "reset" if abort else "orderly"


class Ends:
    """Both ends: our connection, and a client on websockets' protocol layer."""

    def __init__(self, connection: WireConnection, transport: ScriptedTransport, compression: bool) -> None:
        self.connection = connection
        self.transport = transport
        self._client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
        if compression:
            self._client.extensions = [WebsocketsDeflate(False, False, 15, 15)]

    def say(self, data: bytes) -> None:
        """The client's bytes arrive."""
        self.connection.feed(bytearray(data), len(data))

    def arrive(self, data: bytes) -> None:
        """The client's bytes are there to be read, and the transport tells so."""
        self.transport.arrived += data
        while self.transport.arrived and self.transport.watched[0]:
            self.connection.readable(bytearray(65536), trio.current_time())

    def open_up(self) -> None:
        """The transport takes everything from now on."""
        self.transport.room = 1 << 30
        self.connection.writable()

    def seen(self) -> list[tuple[str, bytes]]:
        """The frames that arrived at the client since the last call, by opcode and payload."""
        self.connection.sender.flush()
        self._client.receive_data(self.transport.taken)
        self.transport.taken = b""
        assert self._client.parser_exc is None
        frames = [frame for frame in self._client.events_received() if isinstance(frame, Frame)]
        return [(frame.opcode.name.lower(), bytes(frame.data)) for frame in frames]


@asynccontextmanager
async def open_ends(
    room: int = 1 << 30,
    compression: bool = False,
    transport: ScriptedTransport | None = None,
    **settings: object,
) -> AsyncIterator[Ends]:
    """A connection whose client reads ``room`` bytes until ``open_up``, or on another transport."""
    async with open_engine() as engine:
        transport = transport or ScriptedTransport(room)
        codec = PerMessageDeflate(DeflateParameters(), None) if compression else None
        connection = WireConnection(
            engine,
            transport,
            Settings(compression=compression, **settings),
            Request("GET", "/"),
            deflate=codec,
        )
        yield Ends(connection, transport, compression)


def taken(box: Outbox) -> bytes:
    """What its transport has taken."""
    assert isinstance(box.transport, ScriptedTransport)
    return box.transport.taken


def write(box: Outbox, room: int) -> int:
    """Let the transport take ``room`` more bytes."""
    assert isinstance(box.transport, ScriptedTransport)
    box.transport.room = room
    return box.write()
