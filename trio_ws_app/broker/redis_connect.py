"""Connecting to Redis: the stream, TLS, authentication, and what a Sentinel knows."""

from __future__ import annotations

import trio

from .redis_connection import RedisConnection
from .redis_errors import explained
from .redis_url import Address, RedisTimeouts, RedisUrl


async def connect(address: Address, url: RedisUrl, timeouts: RedisTimeouts) -> RedisConnection:
    """Connect, encrypt, authenticate; return a connection whose ``run`` is to be called next.

    Raises BrokerUnavailable with one line that says at which address and why.
    """
    with explained(address, timeouts):
        connection = RedisConnection(await _open_stream(address, url), timeouts)
        try:
            await _say_hello(connection, url)
        except BaseException:
            await connection.aclose()
            raise
    return connection


async def ask_sentinel(address: Address, url: RedisUrl, timeouts: RedisTimeouts) -> Address:
    """Where the primary of ``url.service`` is, as the Sentinel at ``address`` knows it.

    Raises BrokerUnavailable with one line that says why it does not.
    """
    with explained(address, timeouts):
        connection = RedisConnection(await _open_stream(address, url), timeouts)
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
