"""A connection to one Redis server that comes back by itself."""

from __future__ import annotations

from collections.abc import Callable

import trio

from .base import BrokerUnavailable
from .redis_connect import connect
from .redis_connection import OnMessage, RedisConnection
from .redis_patience import pause
from .redis_url import Address, RedisTimeouts, RedisUrl

_FIRST_PAUSE = 0.05


class Link:
    """Keeps one connection to ``address`` open, for as long as ``run`` runs.

    ``connection`` is the open one or None, ``problem`` then says in one line why there is none, and
    ``is_lost`` whether an attempt has failed since there was one.
    ``on_up(link)`` is called when a connection is ready, ``on_down(link)`` when it is lost and after each
    attempt that fails; they must not wait.
    """

    def __init__(
        self, address: Address, on_up: Callable[[Link], object], on_down: Callable[[Link], object]
    ) -> None:
        self.address = address
        self.connection: RedisConnection | None = None
        self.problem: str | None = f"connecting to Redis at {address}"
        self.is_lost = False
        self.scope = trio.CancelScope()
        self._on_up = on_up
        self._on_down = on_down

    async def run(
        self,
        url: RedisUrl,
        timeouts: RedisTimeouts,
        on_message: OnMessage,
        on_dropped: Callable[[bytes], object],
    ) -> None:
        """Connect, and connect again with growing, randomized pauses, until ``scope`` is cancelled."""
        seconds = _FIRST_PAUSE
        with self.scope:
            while True:
                try:
                    connection = await connect(self.address, url, timeouts)
                except BrokerUnavailable as error:
                    self._down(str(error))
                else:
                    came_up = trio.current_time()
                    try:
                        self._up(connection)
                        why = await connection.run(on_message, on_dropped)
                    finally:
                        self.connection = None
                    self._down(f"the connection to Redis at {self.address} is lost: {why}")
                    if trio.current_time() - came_up > timeouts.backoff:
                        seconds = _FIRST_PAUSE
                await pause(seconds)
                seconds = min(2 * seconds, timeouts.backoff)

    def _up(self, connection: RedisConnection) -> None:
        self.connection, self.problem, self.is_lost = connection, None, False
        self._on_up(self)

    def _down(self, problem: str) -> None:
        self.problem, self.is_lost = problem, True
        self._on_down(self)
