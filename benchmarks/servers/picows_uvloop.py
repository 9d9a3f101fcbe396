"""picows on uvloop."""

from __future__ import annotations

import asyncio

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from .asyncio_publisher import publish_plainly
from .job import HOST, MAX_MESSAGE_SIZE, Job, Producers, announce, parse

connected: set[WSTransport] = set()
producers = Producers()


def send_close(transport: WSTransport, frame: WSFrame) -> None:
    """Answer a Close frame."""
    transport.send_close(frame.get_close_code(), frame.get_close_message())
    transport.disconnect()


class Echo(WSListener):
    """Send back every message."""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer one frame."""
        if frame.msg_type == WSMsgType.CLOSE:
            send_close(transport, frame)
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Follow(WSListener):
    """Register for the broadcasts."""

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Register."""
        connected.add(transport)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Leave."""
        connected.discard(transport)


async def produce(_transport: WSTransport) -> None:
    """Wait for something to send."""
    with producers:
        await asyncio.Event().wait()


class Idle(WSListener):
    """Consume and produce."""

    producer: asyncio.Task[None]

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Start producing."""
        self.producer = asyncio.create_task(produce(transport))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Answer one frame."""
        if frame.msg_type == WSMsgType.CLOSE:
            send_close(transport, frame)
        else:
            answer = producers.answer(frame.get_payload_as_utf8_text())
            transport.send(WSMsgType.TEXT, str(answer).encode())

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        """Stop producing."""
        self.producer.cancel()


def send_to_all(message: bytes) -> None:
    """Broadcast."""
    for transport in connected:
        transport.send(WSMsgType.BINARY, message)


async def main(job: Job) -> None:
    """Serve until terminated."""
    listener = {"echo": Echo, "fanout": Follow, "idle": Idle}[job.work]

    def accept(_request: WSUpgradeRequest) -> WSListener:
        return listener()

    server = await ws_create_server(accept, HOST, 0, ssl=job.ssl_context(), max_frame_size=MAX_MESSAGE_SIZE)
    announce(server.sockets[0].getsockname()[1])
    if job.work == "fanout":
        await publish_plainly(job, send_to_all)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(parse()))
