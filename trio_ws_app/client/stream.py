"""The stream under an outgoing connection: it sees what trio-websocket does not look at."""

from __future__ import annotations

import socket
from contextlib import suppress
from functools import partial
from math import inf

import h11
import trio

from ..errors import CloseCode, CloseReason, ConnectionClosed, HandshakeRefused
from ..request import Headers

_MAX_OPENING = 64 * 1024  # of the server's answer; more of a refusal's body is not kept
_WRITE_CHUNK = 16 * 1024  # the step in which progress is measured
_DISCONNECTED = (trio.BrokenResourceError, trio.ClosedResourceError)


class ClientStream(trio.abc.Stream):
    """A stream to a server that bounds writes in time and knows when something was last received.

    A write that makes no progress for ``send_timeout`` seconds closes the stream and raises
    BrokenResourceError. ``ended`` is set when nothing more will come, or a write has failed.
    """

    def __init__(self, stream: trio.abc.Stream, send_timeout: float | None) -> None:
        self._stream = stream
        self._send_timeout = send_timeout or inf
        self._opening: bytearray | None = bytearray()
        self.ended = trio.Event()
        self.received_at = trio.current_time()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        try:
            for start in range(0, len(view) or 1, _WRITE_CHUNK):
                await self._send_chunk(view[start : start + _WRITE_CHUNK])
        except _DISCONNECTED:
            self.ended.set()
            raise

    async def _send_chunk(self, chunk: memoryview) -> None:
        # Two steps, each with its time: room that came while the process stood still counts (G14).
        for step in (self._stream.wait_send_all_might_not_block, partial(self._stream.send_all, chunk)):
            with trio.move_on_after(self._send_timeout) as scope:
                await step()
            if scope.cancelled_caught:
                await trio.aclose_forcefully(self)
                raise trio.BrokenResourceError("the server took no data for too long")

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
        finally:
            if not data:
                self.ended.set()
        self.received_at = trio.current_time()
        if self._opening is not None and len(self._opening) < _MAX_OPENING:
            self._opening += data
        return data

    async def aclose(self) -> None:
        self.ended.set()
        shut_down(self._stream)
        await self._stream.aclose()

    def handshake_done(self) -> None:
        """What is received from now on is not kept."""
        self._opening = None

    def handshake_error(self) -> HandshakeRefused | ConnectionClosed:
        """Why the opening handshake failed, judged from what the server sent."""
        assert self._opening is not None  # the handshake is not done
        if not self._opening:
            return ConnectionClosed(CloseReason(CloseCode.ABNORMAL, "the server hung up without an answer"))
        answer = _parse_answer(bytes(self._opening))
        return answer or ConnectionClosed(
            CloseReason(CloseCode.PROTOCOL_ERROR, "the server's answer is no WebSocket handshake")
        )


def shut_down(stream: trio.abc.Stream) -> None:
    """Shut down the socket of ``stream``, perhaps below TLS, before that is closed.

    So the connection ends for the server also if a forked child has inherited the descriptor: closing this
    process's copy alone sends no FIN.
    """
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if isinstance(stream, trio.SocketStream):
        with suppress(OSError):
            stream.socket.shutdown(socket.SHUT_RDWR)


def _parse_answer(data: bytes) -> HandshakeRefused | None:
    """The HTTP response in ``data``, its body as far as it came; None if there is none, or it is a 101."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method="GET", target="/", headers=[("Host", "-")]))
    http.send(h11.EndOfMessage())
    status, fields, body = 0, Headers(), b""
    try:
        http.receive_data(data)
        while isinstance(event := http.next_event(), h11.Response | h11.InformationalResponse | h11.Data):
            if isinstance(event, h11.Response):
                status = event.status_code
                fields = Headers((name.decode(), value.decode("latin-1")) for name, value in event.headers)
            elif isinstance(event, h11.Data):
                body += event.data
    except h11.RemoteProtocolError:
        pass  # no HTTP; or a body that does not fit its headers, whose status still counts
    return HandshakeRefused(status, fields, body) if status else None
