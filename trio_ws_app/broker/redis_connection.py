"""One connection to one Redis server, in RESP3.

hiredis, of the Redis project, parses the protocol. The loop around its parser is ours, since Python's
clients do not hold what a broker promises: they queue received messages without a bound and read on while the
consumer is behind, a ping that a paused server leaves unanswered is never noticed, and an error reply to
SUBSCRIBE cannot be told from others. Here everything that arrives is handled in order by the one task that
reads, so a busy process reads more slowly and nothing piles up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import attrs
import hiredis
import trio
from hiredis import PushNotification

from ..errors import system_error
from .redis_errors import ConnectionLost, NotSent, RedisError, refusal
from .redis_patience import RedisTimeouts

Reply = object  # None, int, float, bool, bytes, or a list or dict of these; a RedisError if Redis refuses
OnReply = Callable[[Reply], object]
OnMessage = Callable[[bytes, bytes], object]  # channel, payload
OnDropped = Callable[[bytes], object]  # channel

_INCOMPLETE: Final = object()
_RECEIVE_SIZE: Final = 64 * 1024
_TURN: Final = 32  # messages that are delivered, or
_TURN_SECONDS: Final = 0.005  # how long that takes, before other tasks get their turn
_MAX_UNANSWERED: Final = 4 * 1024 * 1024  # bytes of commands without a reply, as long as more than one waits
_COST_OF_A_COMMAND: Final = 256  # bytes that one takes besides its own until its reply
_MESSAGES: Final = (b"message", b"smessage")


@attrs.define(eq=False)
class _Expected:
    on_reply: OnReply
    pushed: tuple[bytes, ...] | None  # kind and channel of a reply that comes as a push
    size: int


class RedisConnection:
    """Sends commands at once, hands replies and messages to callbacks, and notices when Redis is gone."""

    def __init__(self, stream: trio.abc.Stream, timeouts: RedisTimeouts) -> None:
        self.mode = "standalone"  # or "cluster"
        self._stream = stream
        self._timeouts = timeouts
        self._parser = hiredis.Reader(ValueError, refusal, notEnoughData=_INCOMPLETE)
        self._expected: deque[_Expected] = deque()
        self._unanswered = 0  # what ``_expected`` takes, in bytes
        self._turn = trio.Lock()  # of the one task that waits for ``_answered``; the others queue here
        self._answered = trio.Event()
        self._outgoing = bytearray()
        self._has_outgoing = trio.Event()
        self._heard = 0.0
        self._scope = trio.CancelScope()
        self._end: str | None = None

    async def call(self, *command: bytes) -> Reply:
        """Send one command and return its reply; only before ``run``.

        Raises RedisError if Redis refuses, OSError or trio.BrokenResourceError if the network fails.
        """
        await self._stream.send_all(_packed(command))
        while (reply := self._parser.gets()) is _INCOMPLETE:
            self._parser.feed(await self._receive())
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def send(self, *command: bytes, on_reply: OnReply, pushed: bool = False) -> None:
        """Queue one command; ``on_reply`` is called once, with a ``ConnectionLost`` if no reply will come.

        ``pushed``: the reply comes as a push, which has the command's name and channel.
        """
        if self._end is not None:
            on_reply(NotSent(self._end))
            return
        packed = _packed(command)
        size = len(packed) + _COST_OF_A_COMMAND
        self._expected.append(_Expected(on_reply, command if pushed else None, size))
        self._unanswered += size
        self._outgoing += packed
        self._has_outgoing.set()

    async def wait_for_room(self, size: int) -> None:
        """Wait until the commands without a reply leave room for ``size`` bytes, or the connection has ended.

        The tasks that wait go on in the order in which they came.
        """
        if self._has_room(size) and not self._turn.locked():
            return
        async with self._turn:
            while not self._has_room(size):
                self._answered = trio.Event()
                await self._answered.wait()

    def _has_room(self, size: int) -> bool:
        return not self._expected or self._unanswered + size + _COST_OF_A_COMMAND <= _MAX_UNANSWERED

    async def request(self, *command: bytes) -> Reply:
        """Send one command and wait for its reply. When cancelled, the command may be carried out or not."""
        answered = trio.Event()
        replies: list[Reply] = []

        def on_reply(reply: Reply) -> None:
            replies.append(reply)
            answered.set()

        self.send(*command, on_reply=on_reply)
        await answered.wait()
        return replies[0]

    def _answer(self, reply: Reply) -> None:
        expected = self._expected.popleft()
        self._unanswered -= expected.size
        self._answered.set()
        expected.on_reply(reply)

    async def run(self, on_message: OnMessage, on_dropped: OnDropped) -> str:
        """Carry everything until the connection ends, and return why it did, in one line.

        ``on_message`` gets each message, ``on_dropped`` each channel whose subscription Redis ended by
        itself. When cancelled, the connection is closed at once.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    for task in (partial(self._read, on_message, on_dropped), self._write, self._watch):
                        nursery.start_soon(self._until_lost, task)
        finally:
            self._end = self._end or "the connection was closed"
            while self._expected:
                self._answer(ConnectionLost(self._end))
            await self.aclose()
        return self._end

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def _until_lost(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except (OSError, trio.BrokenResourceError, RedisError, ValueError) as error:
            self._end = self._end or system_error(error)
            self._scope.cancel()

    async def _receive(self) -> bytes:
        data = bytes(await self._stream.receive_some(_RECEIVE_SIZE))
        if not data:
            raise ConnectionLost("Redis closed the connection")
        self._heard = trio.current_time()
        return data

    async def _read(self, on_message: OnMessage, on_dropped: OnDropped) -> None:
        while True:
            self._parser.feed(await self._receive())
            left, turn_ends = _TURN, time.perf_counter() + _TURN_SECONDS
            while (item := self._parser.gets()) is not _INCOMPLETE:
                if isinstance(item, PushNotification) and item and item[0] in _MESSAGES:
                    _, channel, payload = item
                    assert isinstance(channel, bytes)
                    assert isinstance(payload, bytes)
                    on_message(channel, payload)
                else:
                    self._handle(item, on_dropped)
                left -= 1
                if not left or time.perf_counter() >= turn_ends:
                    await trio.lowlevel.checkpoint()
                    self._heard = trio.current_time()  # a task that is busy with messages has not lost Redis
                    left, turn_ends = _TURN, time.perf_counter() + _TURN_SECONDS

    def _handle(self, item: Reply, on_dropped: OnDropped) -> None:
        if isinstance(item, PushNotification):
            kind, channel = item[:2]
            if not self._expected or self._expected[0].pushed != (kind, channel):
                on_dropped(channel)
                return
        elif not self._expected:
            raise ValueError("Redis sent a reply to no command")
        self._answer(item)

    async def _write(self) -> None:
        while True:
            await self._has_outgoing.wait()
            self._has_outgoing = trio.Event()
            data, self._outgoing = bytes(self._outgoing), bytearray()
            await self._stream.send_all(data)

    async def _watch(self) -> None:
        while True:
            await trio.sleep_until(self._heard + self._timeouts.ping_interval)
            if trio.current_time() - self._heard < self._timeouts.ping_interval:
                continue
            heard = self._heard
            self.send(b"PING", on_reply=lambda _: None)
            await trio.sleep(self._timeouts.ping)
            await trio.lowlevel.checkpoint()  # what has come while the process stood still is read first
            if self._heard == heard:
                silence = self._timeouts.ping_interval + self._timeouts.ping
                raise ConnectionLost(f"Redis does not answer pings for {silence:g} s")


def _packed(command: tuple[bytes, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub has tuples of one element
    return packed
