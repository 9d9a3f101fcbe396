"""A client in the hand of a test: speaks well-formed WebSocket, or whatever the test makes it send."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

import trio
from wsproto.connection import Connection as Codec
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.handshake import H11Handshake

from ..connection import Message, as_message
from ..errors import CloseCode, CloseReason, ConnectionClosed, HandshakeRefused
from ..request import Headers
from .streams import MemoryStream

_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class Peer(trio.abc.Channel[Message]):
    """The client's end of a connection in memory, as a channel of messages.

    Its framing is wsproto's, so it is a second opinion on ours. ``run`` reads what arrives, answers pings
    and Close frames, and fails with AssertionError at bytes that are no well-formed frames.

    ``stream`` misbehaves on demand: ``stall()`` and ``resume()``, ``vanish()``, ``abort()``,
    ``trickle()``. ``send_raw`` sends any bytes. A cancelled ``send`` may leave half a frame.

    ``close_reason`` is how it ended, or None; ``wire`` is every byte received since the handshake.
    """

    def __init__(self, stream: MemoryStream) -> None:
        self.stream = stream
        self.wire = bytearray()
        self.close_reason: CloseReason | None = None
        self.subprotocol: str | None = None
        self.pings = 0
        self._codec = Codec(ConnectionType.CLIENT)
        self._text: list[str] = []
        self._binary: list[bytes] = []
        self._pongs: dict[bytes, trio.Event] = {}
        self._has_sent_close = False
        self._ended = trio.Event()
        self._sending = trio.StrictFIFOLock()
        self._deliver, self._messages = trio.open_memory_channel[Message](2**31)

    # What a test does with it.

    async def send(self, message: Message) -> None:
        """Send one message in one frame.

        Raises ConnectionClosed if the server has closed or dropped the connection, ClosedResourceError if
        this end has closed it; so do all methods that send frames.
        """
        await self._send_frame(self._message(message, True))

    async def send_fragments(self, parts: Sequence[Message]) -> None:
        """Send one message in as many frames as it has parts."""
        last = len(parts) - 1
        for number, part in enumerate(parts):
            await self._send_frame(self._message(part, number == last))

    async def send_raw(self, data: bytes) -> None:
        """Send bytes as they are. Raises ConnectionClosed if the server has dropped the connection."""
        async with self._sending:
            try:
                await self.stream.send_all(data)
            except trio.BrokenResourceError:
                raise self._closed() from None

    async def receive(self) -> Message:
        """The next message. Raises ConnectionClosed when the server has ended the connection."""
        try:
            return await self._messages.receive()
        except trio.EndOfChannel:
            raise self._closed() from None

    async def ping(self, payload: bytes = b"ping") -> None:
        """Send a ping and wait for its pong. Raises ConnectionClosed if the end comes instead."""
        answered = self._pongs.setdefault(payload, trio.Event())
        await self._send_frame(Ping(payload))
        await answered.wait()
        if payload in self._pongs:
            raise self._closed()

    async def send_close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Send a Close frame, and go on."""
        await self._send_frame(CloseConnection(code, reason))

    say_close = send_close  # what tests written for 0.1 call

    async def aclose(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Send Close, then wait for the reply and for the end of the stream (RFC 6455, 7.1.1)."""
        if self._codec.state is ConnectionState.OPEN and not self._ended.is_set():
            with suppress(ConnectionClosed, trio.ClosedResourceError):
                await self.send_close(code, reason)
        await self._ended.wait()
        await self.stream.aclose()

    async def wait_ended(self) -> None:
        """Wait until nothing more will arrive."""
        await self._ended.wait()

    # What goes on behind.

    async def open(self, path: str, headers: Iterable[tuple[str, str]], subprotocols: Sequence[str]) -> None:
        """The opening handshake, before ``run``. Raises HandshakeRefused, or ConnectionClosed."""
        handshake = H11Handshake(ConnectionType.CLIENT)
        extra = [(name.encode(), value.encode()) for name, value in headers]
        await self.send_raw(handshake.send(Request("memory", path, [], extra, list(subprotocols))))
        refused: RejectConnection | None = None
        body = b""
        while handshake.connection is None:
            data = await self._receive_some()
            if not data:
                if refused is None:
                    raise ConnectionClosed(CloseReason(CloseCode.ABNORMAL, "gone before the handshake"))
                fields = Headers((name.decode(), value.decode()) for name, value in refused.headers)
                raise HandshakeRefused(refused.status_code, fields, body)
            handshake.receive_data(data)
            for event in handshake.events():
                if isinstance(event, AcceptConnection):
                    self.subprotocol = event.subprotocol
                elif isinstance(event, RejectConnection):
                    refused = event
                elif isinstance(event, RejectData):
                    body += event.data
        self._codec = handshake.connection

    async def run(self) -> None:
        """Read until the end."""
        try:
            await self._act()
            while data := await self._receive_some():
                self.wire += data
                if self._codec.state is not ConnectionState.CLOSED:
                    self._codec.receive_data(data)
                    await self._act()
        finally:
            if self.close_reason is None:
                self.close_reason = CloseReason(CloseCode.ABNORMAL)
            self._deliver.close()
            self._ended.set()
            for waiting in self._pongs.values():
                waiting.set()

    async def _receive_some(self) -> bytes:
        try:
            return await self.stream.receive_some()
        except _GONE:
            return b""

    async def _act(self) -> None:
        for event in self._codec.events():
            if isinstance(event, TextMessage | BytesMessage):
                self._collect(event)
            elif isinstance(event, Ping):
                self.pings += 1
                await self._answer(event.response())
            elif isinstance(event, Pong):
                self._pongs.pop(bytes(event.payload), trio.Event()).set()
            elif isinstance(event, CloseConnection):
                await self._take_close(event)

    def _collect(self, event: TextMessage | BytesMessage) -> None:
        if isinstance(event, TextMessage):
            self._text.append(event.data)
        else:
            self._binary.append(bytes(event.data))
        if event.message_finished:
            is_text = isinstance(event, TextMessage)
            self._deliver.send_nowait("".join(self._text) if is_text else b"".join(self._binary))
            self._text.clear()
            self._binary.clear()

    async def _take_close(self, event: CloseConnection) -> None:
        state = self._codec.state
        if state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            # wsproto's way to say that it cannot parse what came: there was no Close frame.
            raise AssertionError(f"malformed frame: {event.reason}")
        self.close_reason = CloseReason(event.code, event.reason or "")
        if state is ConnectionState.REMOTE_CLOSING:
            await self._answer(event.response())

    async def _answer(self, event: Event) -> None:
        if not self._has_sent_close:
            with suppress(*_GONE):
                await self.send_raw(self._codec.send(event))

    async def _send_frame(self, event: Event) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._has_sent_close:
            raise trio.ClosedResourceError("this end has sent a Close frame")
        if self._ended.is_set() or self._codec.state is not ConnectionState.OPEN:
            raise self._closed()
        self._has_sent_close = isinstance(event, CloseConnection)
        await self.send_raw(self._codec.send(event))

    def _closed(self) -> ConnectionClosed:
        return ConnectionClosed(self.close_reason or CloseReason(CloseCode.ABNORMAL))

    @staticmethod
    def _message(message: Message, final: bool) -> TextMessage | BytesMessage:
        message = as_message(message)
        if isinstance(message, str):
            return TextMessage(message, message_finished=final)
        return BytesMessage(message, message_finished=final)
