"""Connections and servers without sockets behave as those with sockets do, in no time."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.testing import Peer, assert_nothing_left, connected_pair, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def echo(connection: ws.Connection) -> None:
    async for message in connection:
        await connection.send(message)


async def test_messages_go_both_ways() -> None:
    """Text and binary, empty and longer than the buffers, arrive whole and in order."""
    messages = ["", "text", b"", b"bytes", "x" * 200_000, bytes(200_000)]
    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:

        async def send_all(channel: trio.abc.SendChannel[ws.Message]) -> None:
            for message in messages:
                await channel.send(message)

        nursery.start_soon(send_all, connection)
        nursery.start_soon(send_all, peer)
        assert [await peer.receive() for _ in messages] == messages
        assert [await connection.receive() for _ in messages] == messages


async def test_both_ends_send_close() -> None:
    """If one end closes, the other learns the code and the reason."""
    async with connected_pair() as (connection, peer):
        await connection.aclose(4001, "enough")
        with pytest.raises(ws.ConnectionClosed, match=r"4001.*enough"):
            await peer.receive()
    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.aclose, 4002, "enough")
        with pytest.raises(ws.ConnectionClosed, match=r"4002.*enough"):
            await connection.receive()


async def test_pings_are_answered_by_both() -> None:
    """Each end answers the other's pings without being asked to."""
    async with connected_pair() as (connection, peer):
        assert await connection.ping() == 0.0
        assert peer.pings == 1
        await peer.ping()


async def test_sending_after_the_end_says_that_it_is_over() -> None:
    """After the server's Close or its end it is ConnectionClosed, after one's own ClosedResourceError."""

    async def send_everything(peer: Peer, error: type[Exception]) -> None:
        for call in (
            lambda: peer.send("x"),
            lambda: peer.send(b"x"),
            lambda: peer.send_fragments(["x", "y"]),
            lambda: peer.ping(),
            lambda: peer.send_close(),
        ):
            with trio.fail_after(1), pytest.raises(error):
                await call()

    async with connected_pair() as (connection, peer):
        await connection.aclose(4000)
        await peer.wait_ended()
        await send_everything(peer, ws.ConnectionClosed)
    async with connected_pair() as (connection, peer):
        peer.stream.abort()
        await send_everything(peer, ws.ConnectionClosed)
    async with connected_pair() as (connection, peer):
        await peer.send_close()
        await send_everything(peer, trio.ClosedResourceError)
        await peer.wait_ended()
        await send_everything(peer, trio.ClosedResourceError)
    async with connected_pair() as (connection, peer):
        with pytest.raises(TypeError, match="a message is str or bytes, not int"):
            await peer.send(1)  # type: ignore[arg-type]  # the subject


async def test_a_ping_ends_with_its_connection() -> None:
    """A ping whose pong does not come before the end raises ConnectionClosed."""
    async with connected_pair() as (_, peer), trio.open_nursery() as nursery:
        peer.stream.stall()
        failed = trio.Event()

        async def ping() -> None:
            with pytest.raises(ws.ConnectionClosed):
                await peer.ping()
            failed.set()

        nursery.start_soon(ping)
        await wait_all_tasks_blocked()
        peer.stream.abort()
        with trio.fail_after(1):
            await failed.wait()


async def test_fragments_make_one_message() -> None:
    """A message in several frames arrives as one."""
    async with connected_pair() as (connection, peer):
        await peer.send_fragments(["ab", "", "c"])
        await peer.send_fragments([b"12", b"3"])
        assert [await connection.receive(), await connection.receive()] == ["abc", b"123"]


async def test_a_peer_that_vanished_is_given_up() -> None:
    """Keepalive ends a connection whose peer says nothing any more, on virtual time."""
    settings = ws.Settings(ping_interval=20, ping_timeout=20)
    async with connected_pair(settings=settings) as (connection, peer):
        peer.stream.vanish()
        began = trio.current_time()
        with pytest.raises(ws.ConnectionClosed):
            await connection.receive()
        assert trio.current_time() - began == 40


async def test_a_reset_ends_the_connection_at_once() -> None:
    """A reset is seen by a handler that waits for a message."""
    async with connected_pair() as (connection, peer):
        peer.stream.abort()
        with pytest.raises(ws.ConnectionClosed, match="1006"):
            await connection.receive()


async def test_a_stalled_peer_is_given_up() -> None:
    """A peer that takes nothing for send_timeout is aborted, and sending says so."""
    async with connected_pair(settings=ws.Settings(send_timeout=5)) as (connection, peer):
        peer.stream.stall()
        began = trio.current_time()

        async def flood() -> None:
            while True:
                await connection.send(bytes(10_000))

        with pytest.raises(ws.ConnectionClosed):
            await flood()
        assert trio.current_time() - began <= 5


async def test_a_trickling_peer_is_understood() -> None:
    """Frames that come byte by byte are the same frames."""
    async with connected_pair() as (connection, peer):
        peer.stream.trickle()
        await peer.send("slowly")
        assert await connection.receive() == "slowly"


async def test_a_server_in_memory_serves() -> None:
    """Handshake, path, subprotocol, echo and closing handshake, with nothing left."""
    settings = ws.Settings(subprotocols=["chat"])
    with assert_nothing_left():
        async with serve_in_memory(echo, settings=settings) as memory:
            peer = await memory.connect("/room?name=x", subprotocols=["other", "chat"])
            assert peer.subprotocol == "chat"
            await peer.send("hello")
            assert await peer.receive() == "hello"
            (connection,) = memory.server.connections
            assert (connection.request.path, connection.request.query) == ("/room", {"name": "x"})
            await peer.aclose()
            assert peer.close_reason == ws.CloseReason(1000)


async def test_a_stopping_server_sends_close_to_its_clients() -> None:
    """At the end of the block clients get 1001, as from any server that is cancelled."""
    async with serve_in_memory(echo) as memory:
        peer = await memory.connect()
    assert peer.close_reason == ws.CloseReason(1001)


async def test_headers_are_a_mapping_or_pairs() -> None:
    """As those of connect are."""

    async def tell(connection: ws.Connection) -> None:
        await connection.send(connection.request.headers["x-name"])

    async with serve_in_memory(tell) as memory:
        assert await (await memory.connect(headers={"X-Name": "ann"})).receive() == "ann"
        assert (
            await (await memory.connect(headers=[("X-Name", "ann"), ("X-Name", "b")])).receive() == "ann, b"
        )


async def test_a_server_that_has_stopped_is_not_there() -> None:
    """A client that comes then learns it at once."""
    async with serve_in_memory(echo) as memory:
        await memory.server.drain()
        for connect in (memory.connect, memory.connect_raw):
            with pytest.raises(trio.BrokenResourceError):
                await connect()


async def test_what_a_block_raises_comes_out_as_itself() -> None:
    """No group is around it: a test that fails shows its failure."""

    async def in_a_server() -> None:
        async with serve_in_memory(echo) as memory:
            await memory.connect()
            raise KeyError

    async def in_a_pair() -> None:
        async with connected_pair():
            raise KeyError

    for block in in_a_server, in_a_pair:
        with pytest.raises(KeyError):
            await block()


async def test_a_refusal_is_an_exception() -> None:
    """An HTTP answer comes out of connect with its status and body."""
    async with serve_in_memory(echo, process_request=lambda _: ws.Response(401, "who?")) as memory:
        with pytest.raises(ws.HandshakeRefused) as caught:
            await memory.connect()
    assert (caught.value.status, caught.value.body) == (401, b"who?")


async def test_a_handlers_bug_is_one_connections_bug(caplog: pytest.LogCaptureFixture) -> None:
    """The peer of a failing handler gets 1011, another one is served on."""

    async def handler(connection: ws.Connection) -> None:
        if connection.request.path == "/bug":
            raise RuntimeError("a bug")
        await echo(connection)

    async with serve_in_memory(handler) as memory:
        good, bad = await memory.connect("/"), await memory.connect("/bug")
        with pytest.raises(ws.ConnectionClosed, match="1011"):
            await bad.receive()
        await good.send("still there")
        assert await good.receive() == "still there"
    assert [record.levelno for record in caplog.records if record.levelno > logging.INFO] == [logging.ERROR]
