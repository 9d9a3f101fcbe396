"""Reading lines without a thread, sending them over connections that break off, and a signal meanwhile."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

import trio_ws_app as ws
from trio_ws_app.cli.conversation import Conversation, Session
from trio_ws_app.cli.lines import InputLines, OutputLines
from trio_ws_app.errors import UsageError
from trio_ws_app.testing import Peer, connected_pair, serve_in_memory
from trio_ws_app.wire.connection import WireConnection

pytestmark = pytest.mark.usefixtures("autojump_clock")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)


async def test_lines_come_whole_however_they_arrive(pipe: tuple[int, int]) -> None:
    """Pieces are put together, also inside a character, and also if the waiting for a line was cancelled."""
    reading, writing = pipe
    lines = InputLines(reading)
    os.write(writing, b"one\ntw")
    assert await anext(lines) == "one"
    with trio.move_on_after(1) as scope:
        await anext(lines)
    assert scope.cancelled_caught
    os.write(writing, "ü".encode()[:1])
    os.write(writing, "ü".encode()[1:] + b"\n")
    assert await anext(lines) == "twü"
    os.close(writing)
    assert await anext(lines, None) is None
    assert not lines.has_rest()


async def test_a_line_that_is_no_text(pipe: tuple[int, int]) -> None:
    """What is not UTF-8 is the caller's mistake, told with the number of the line."""
    reading, writing = pipe
    os.write(writing, b"\xff\n")
    os.close(writing)
    with pytest.raises(UsageError, match="line 1 "):
        await anext(InputLines(reading))


async def test_a_long_line_is_looked_through_once(tmp_path: Path) -> None:
    """It takes about as long as many short ones of the same size."""
    path, took = tmp_path / "lines", []
    for line in (b"x" * 1023, b"x" * 32_000_000):
        path.write_bytes((line + b"\n") * (32_000_000 // len(line)))
        with path.open() as file:
            began = time.thread_time()
            async for _ in InputLines(file.fileno()):
                pass
            took.append(time.thread_time() - began)
    assert took[1] < 5 * took[0]


class Output(OutputLines):
    """Keeps what is written; the real one uses threads, which virtual time does not wait for."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.lines: list[str] = []

    async def write(self, line: str) -> None:
        self.lines.append(line)


async def test_a_line_that_was_not_sent_goes_to_the_next_connection(tmp_path: Path) -> None:
    """A line whose send failed is sent again, in its place, on the connection that comes after."""
    path = tmp_path / "lines"
    texts = [letter * 50_000 for letter in "abcdef"]
    path.write_text("\n".join(texts))
    got: list[object] = []
    with path.open() as file:
        conversation = Conversation(InputLines(file.fileno()), Output(), silence=1)
        async with connected_pair() as (connection, peer):
            peer.stream.stall()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(conversation.run, connection)
                await trio.testing.wait_all_tasks_blocked()
                assert isinstance(connection, WireConnection)
                taken = connection.messages_out
                peer.stream.abort()
        async with connected_pair() as (connection, peer):
            assert await conversation.run(connection)
            with trio.move_on_after(1):
                while True:
                    got.append(await peer.receive())
    # What the first connection had taken is lost with it; the others arrive.
    assert 0 < taken < len(texts)
    assert got == texts[taken:]


async def test_answers_are_waited_for_until_there_is_silence(pipe: tuple[int, int]) -> None:
    """After the last line each answer prolongs the waiting."""
    reading, writing = pipe
    os.write(writing, b"question\n")
    os.close(writing)
    output = Output()
    conversation = Conversation(InputLines(reading), output, silence=1)

    async def answer(peer: Peer) -> None:
        assert await peer.receive() == "question"
        for number in range(5):
            await trio.sleep(0.9)
            await peer.send(str(number))
        await trio.sleep(1.1)
        await peer.send("too late")

    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(answer, peer)
        assert await conversation.run(connection)
        nursery.cancel_scope.cancel()
    assert output.lines == ["0", "1", "2", "3", "4"]


class Interrupted(Conversation):
    """The first time, a signal comes when the connection has ended and the command has yet to hear of it."""

    is_signalled = False

    async def run(self, connection: ws.Connection) -> bool:
        by_us = await super().run(connection)
        if not self.is_signalled:
            self.is_signalled = True
            signal.raise_signal(signal.SIGINT)
            with trio.CancelScope(shield=True):
                await trio.testing.wait_all_tasks_blocked()
        return by_us


async def test_a_signal_that_comes_as_the_connection_ends(pipe: tuple[int, int]) -> None:
    """With --reconnect it ends the command all the same."""

    async def leave(connection: ws.Connection) -> None:
        await connection.aclose(1012)

    async with serve_in_memory(leave) as server:
        conversation = Interrupted(InputLines(pipe[0]), Output(), silence=1)
        session = Session("ws://localhost/", {"open_stream": server.connect_raw}, conversation, keep_on=True)
        with trio.fail_after(300):
            assert await session.run() == 128 + signal.SIGINT
