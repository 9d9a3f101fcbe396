"""A connection to one Redis server, encrypted and authenticated, that comes back by itself."""

from __future__ import annotations

from collections.abc import Callable

import trio

from .base import BrokerUnavailable
from .redis_connection import OnDropped, OnMessage, RedisConnection
from .redis_errors import explained
from .redis_patience import pause
from .redis_url import Address, RedisUrl

_FIRST_PAUSE = 0.05


class Link:
    """Keeps one connection to ``address`` open, for as long as ``run`` runs.

    ``connection`` is the open one or None, ``problem`` then says in one line why there is none, and
    ``is_lost`` whether an attempt has failed since there was one.
    ``on_change(link)`` is called when a connection is ready, when it is lost, and after each attempt that
    fails; it must not wait.
    """

    def __init__(self, address: Address, url: RedisUrl, on_change: Callable[[Link], object]) -> None:
        self.address = address
        self.connection: RedisConnection | None = None
        self.problem: str | None = f"connecting to Redis at {address}"
        self.is_lost = False
        self.scope = trio.CancelScope()
        self._url = url
        self._on_change = on_change

    async def run(self, on_message: OnMessage, on_dropped: OnDropped) -> None:
        """Connect, and connect again with growing, randomized pauses, until ``scope`` is cancelled."""
        seconds, longest = _FIRST_PAUSE, self._url.timeouts.backoff
        with self.scope:
            while True:
                try:
                    connection = await connect(self.address, self._url)
                except BrokerUnavailable as error:
                    self._change(None, str(error))
                else:
                    came_up = trio.current_time()
                    try:
                        self._change(connection, None)
                        why = await connection.run(on_message, on_dropped)
                    finally:
                        self.connection = None
                    self._change(None, f"the connection to Redis at {self.address} is lost: {why}")
                    if trio.current_time() - came_up > longest:
                        seconds = _FIRST_PAUSE
                await pause(seconds)
                seconds = min(2 * seconds, longest)

    def _change(self, connection: RedisConnection | None, problem: str | None) -> None:
        self.connection, self.problem, self.is_lost = connection, problem, connection is None
        self._on_change(self)


async def connect(address: Address, url: RedisUrl) -> RedisConnection:
    """Connect, encrypt, authenticate; return a connection whose ``run`` is to be called next.

    Raises BrokerUnavailable with one line that says at which address and why.
    """
    with explained(address, url.timeouts):
        connection = RedisConnection(await _open_stream(address, url), url.timeouts)
        try:
            await _say_hello(connection, url)
        except BaseException:
            await connection.aclose()
            raise
    return connection


async def ask_sentinel(address: Address, url: RedisUrl) -> Address:
    """Where the primary of ``url.service`` is, as the Sentinel at ``address`` knows it.

    Raises BrokerUnavailable with one line that says why it does not.
    """
    with explained(address, url.timeouts):
        connection = RedisConnection(await _open_stream(address, url), url.timeouts)
        try:
            if url.sentinel_password is not None:
                name, password = url.sentinel_username.encode(), url.sentinel_password.encode()
                await connection.call(b"AUTH", name, password)
            service = (url.service or "").encode()
            found = await connection.call(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", service)
        finally:
            await connection.aclose()
        if not isinstance(found, list):
            raise ValueError(f"it watches nothing of the name {url.service!r}")
        host, port = found
        return Address(host.decode(), int(port))


async def _open_stream(address: Address, url: RedisUrl) -> trio.abc.Stream:
    if not address.port:
        return await trio.open_unix_socket(address.host)
    stream = await trio.open_tcp_stream(address.host, address.port)
    if url.tls is None:
        return stream
    return trio.SSLStream(stream, url.tls, server_hostname=address.host, https_compatible=True)


async def _say_hello(connection: RedisConnection, url: RedisUrl) -> None:
    """Switch to RESP3 and authenticate; sets ``mode`` ("standalone" or "cluster")."""
    auth = () if url.password is None else (b"AUTH", url.username.encode(), url.password.encode())
    hello = await connection.call(b"HELLO", b"3", *auth, b"SETNAME", url.client_name.encode())
    if not isinstance(hello, dict):
        raise ValueError("the answer to HELLO is not Redis 6 or newer")
    connection.mode = hello.get(b"mode", b"standalone").decode()
    if connection.mode == "sentinel":
        raise ValueError("it is a Sentinel: write redis+sentinel://host/service")
    if connection.mode == "standalone" and hello.get(b"role") in (b"replica", b"slave"):
        raise ValueError("it is a replica, and its primary is needed")
    if url.database:
        await connection.call(b"SELECT", b"%d" % url.database)
