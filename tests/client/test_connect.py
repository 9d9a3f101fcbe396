"""``connect``: the way to a server, what can go wrong on it, and how the block ends."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme
from certificates import presenting, trusting
from running import PATIENCE
from scripted_server import OK, ScriptedServer, frame, running, unmasked

import trio_ws_app as ws
from trio_ws_app.testing import assert_nothing_left

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def echo(connection: ws.Connection) -> None:
    await connection.send(f"hello from {connection.subprotocol}, {connection.request.headers.get('x-name')}")
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def serving(handler: ws.Handler = echo, **options: object) -> AsyncIterator[str]:
    """A server of our own on a free port; gives its URL without the scheme."""
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ws.serve, handler, 0, **options))
        yield f"127.0.0.1:{server.port}"
        server.cancel()


@pytest.fixture
def scripted() -> ScriptedServer:
    return ScriptedServer()


async def test_messages_headers_and_subprotocol() -> None:
    """Headers and subprotocols reach the server, messages go both ways, and the server sees 1000."""
    reasons = []

    async def handler(connection: ws.Connection) -> None:
        await echo(connection)
        reasons.append(connection.close_reason)

    with assert_nothing_left():
        async with (
            serving(handler, settings=ws.Settings(subprotocols=("b", "a"))) as address,
            ws.connect(
                f"ws://{address}/path?q=1", headers={"X-Name": "Ann"}, subprotocols=["a", "b"]
            ) as connection,
        ):
            assert await connection.receive() == "hello from b, Ann"
            assert connection.subprotocol == "b"
            assert connection.remote == address
            assert connection.request.query == {"q": "1"}
            assert connection.request.headers["x-name"] == "Ann"
            await connection.send(b"\x00")
            assert await connection.receive() == b"\x00"
    assert reasons == [ws.CloseReason(1000)]


async def test_credentials_of_the_url_are_sent() -> None:
    """User and password become an Authorization header, unless one is given."""
    seen = []

    async def handler(connection: ws.Connection) -> None:
        seen.append(connection.request.headers["authorization"])

    async with serving(handler) as address:
        async with ws.connect(f"ws://ann:secret@{address}/"):
            pass
        async with ws.connect(f"ws://ann:secret@{address}/", headers=[("Authorization", "Bearer x")]):
            pass
    assert seen == ["Basic YW5uOnNlY3JldA==", "Bearer x"]


async def test_an_exception_of_the_block_comes_out_as_itself() -> None:
    """The block's own exception is not wrapped, and the connection is closed all the same."""
    with assert_nothing_left():
        async with serving() as address:
            with pytest.raises(KeyError, match="mine"):
                async with ws.connect(f"ws://{address}/"):
                    raise KeyError("mine")


async def test_an_exception_of_a_cancelled_block_comes_out_as_itself() -> None:
    """What the clean-up raises is not lost to the cancellation of the closing handshake."""

    async def fail_when_cancelled(address: str) -> None:
        async with ws.connect(f"ws://{address}/"):
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("mine")

    with assert_nothing_left():
        async with serving() as address:
            with pytest.raises(KeyError, match="mine"), trio.move_on_after(1):
                await fail_when_cancelled(address)


async def test_a_group_of_a_cancelled_block_comes_out_as_itself() -> None:
    """A group in which a nursery of the block has put a cancellation beside an error is not wrapped again."""

    async def fail() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise KeyError("mine")

    async def fail_when_cancelled(address: str) -> None:
        async with ws.connect(f"ws://{address}/"), trio.open_nursery() as nursery:
            nursery.start_soon(fail)

    async with serving() as address:
        with pytest.raises(BaseExceptionGroup) as caught, trio.move_on_after(1):
            await fail_when_cancelled(address)
    assert [type(error) for error in caught.value.exceptions] == [KeyError]


async def test_a_cancelled_block_drops_the_connection() -> None:
    """Cancelling the block ends it without waiting for the server's Close."""
    reasons = []

    async def handler(connection: ws.Connection) -> None:
        await connection.wait_closed()
        reasons.append(connection.close_reason)

    with assert_nothing_left():
        async with serving(handler) as address:
            with trio.move_on_after(1) as scope:
                async with ws.connect(f"ws://{address}/") as connection:
                    async for _ in connection:
                        pass
            assert scope.cancelled_caught
            await trio.testing.wait_all_tasks_blocked()
    assert [reason.code for reason in reasons if reason] == [1006]


async def test_a_close_of_the_server_ends_the_loop() -> None:
    """After the server's close the loop ends, the block is left normally, and nothing stays open."""

    async def handler(connection: ws.Connection) -> None:
        await connection.send("one")
        await connection.aclose(4000, "enough")

    with assert_nothing_left():
        async with serving(handler) as address, ws.connect(f"ws://{address}/") as connection:
            assert [message async for message in connection] == ["one"]
            assert connection.close_reason == ws.CloseReason(4000, "enough")


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 401 No\r\nContent-Length: 3\r\nX-Why: you\r\n\r\nwho", 401, b"who"),
        (b"HTTP/1.1 403 No\r\nX-Why: you\r\nContent-Length: 0\r\n\r\n", 403, b""),
        (b"HTTP/1.1 404 \r\nX-Why: you\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nw\r\n0\r\n\r\n", 404, b"w"),
        (b"HTTP/1.0 503 No\r\nX-Why: you\r\n\r\nuntil the end", 503, b"until the end"),
        (b"HTTP/1.1 302 No\r\nX-Why: you\r\nLocation: /\r\nContent-Length: 9\r\n\r\nshort", 302, b"short"),
        (b"HTTP/1.1 200 OK\r\nX-Why: you\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    ],
)
async def test_a_refusal_has_status_headers_and_body(
    scripted: ScriptedServer, answer: bytes, status: int, body: bytes
) -> None:
    """Every answer but 101 is HandshakeRefused with what came, however its body is delimited."""
    async with running(scripted.refuse, answer):
        with trio.fail_after(1), pytest.raises(ws.HandshakeRefused) as caught:
            async with ws.connect("ws://server/", open_stream=scripted.open_stream):
                pytest.fail("there is no connection")
    assert caught.value.status == status
    assert caught.value.headers["x-why"] == "you"
    assert caught.value.body == body


NONSENSE = [
    b"220 mail.example ESMTP\r\n\r\n",
    OK + b"Sec-WebSocket-Accept: d3Jvbmc=\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade\r\n\r\n",
]


@pytest.mark.parametrize(
    ("answer", "hang_up", "code"),
    [(b"", True, 1006), *((answer, hang_up, 1002) for answer in NONSENSE for hang_up in (False, True))],
)
async def test_an_answer_that_is_no_handshake(
    scripted: ScriptedServer, answer: bytes, hang_up: bool, code: int
) -> None:
    """A server that hangs up is 1006, one that speaks something else is 1002, each noticed at once."""
    async with running(partial(scripted.refuse, answer, hang_up=hang_up)):
        with trio.fail_after(1), pytest.raises(ws.ConnectionClosed) as caught:
            async with ws.connect("ws://server/", open_stream=scripted.open_stream):
                pytest.fail("there is no connection")
    assert caught.value.reason.code == code


async def test_a_subprotocol_that_was_not_offered(scripted: ScriptedServer) -> None:
    """A server that chooses what was not offered has failed the handshake (RFC 6455, section 4.1)."""

    async def script() -> None:
        await scripted.read_request()
        await scripted.stream.send_all(OK + scripted.accept_header + b"Sec-WebSocket-Protocol: x\r\n\r\n")

    async with running(script):
        with pytest.raises(ws.ConnectionClosed) as caught:
            async with ws.connect("ws://server/", open_stream=scripted.open_stream):
                pytest.fail("there is no connection")
    assert caught.value.reason.code == 1002


async def test_a_server_that_never_answers(scripted: ScriptedServer) -> None:
    """``open_timeout`` bounds everything up to the open connection."""
    before = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        async with ws.connect("ws://server/", open_stream=scripted.open_stream):
            pytest.fail("there is no connection")
    assert trio.current_time() - before == pytest.approx(10)


async def test_a_stream_that_never_opens() -> None:
    """The way to the server counts for ``open_timeout`` too."""

    async def open_stream() -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    with pytest.raises(trio.TooSlowError):
        async with ws.connect("ws://server/", open_stream=open_stream, settings=ws.Settings(open_timeout=1)):
            pytest.fail("there is no connection")


async def test_a_port_without_a_listener() -> None:
    """A server that cannot be reached is Trio's own OSError."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(OSError, match=str(port)):
        async with ws.connect(f"ws://127.0.0.1:{port}/"):
            pytest.fail("there is no connection")


async def test_a_server_that_is_gone_before_the_request() -> None:
    """A request that cannot be sent is ConnectionClosed at once, not after ``open_timeout``."""

    async def open_stream() -> trio.abc.Stream:
        here, there = trio.testing.memory_stream_pair()
        await there.aclose()
        return here

    with trio.fail_after(1), pytest.raises(ws.ConnectionClosed, match="1006"):
        async with ws.connect("ws://server/", open_stream=open_stream):
            pytest.fail("there is no connection")


async def test_a_forked_child_does_not_keep_the_connection_open() -> None:
    """The server sees the end of the stream although a child has inherited the socket."""
    ended = trio.Event()

    async def handler(connection: ws.Connection) -> None:
        await connection.wait_closed()
        ended.set()

    async with serving(handler) as address:
        inherited = []

        async def open_stream() -> trio.abc.Stream:
            stream = await trio.open_tcp_stream("127.0.0.1", int(address.rpartition(":")[2]))
            inherited.append(stream.socket.dup())
            return stream

        with trio.CancelScope() as scope:
            async with ws.connect(f"ws://{address}/", open_stream=open_stream):
                scope.cancel()
        with trio.fail_after(1):
            await ended.wait()
        inherited[0].close()


async def test_messages_right_behind_the_handshake(scripted: ScriptedServer) -> None:
    """Frames that come in the same packet as the handshake's answer are received, the Close included."""
    frames = frame(1, b"one") + frame(1, b"two") + frame(8, b"\x03\xe9")

    async def script() -> None:
        await scripted.accept(frames)
        await scripted.stream.send_eof()

    async with (
        running(script),
        ws.connect("ws://server/", open_stream=scripted.open_stream) as connection,
    ):
        assert [message async for message in connection] == ["one", "two"]
        assert connection.close_reason == ws.CloseReason(1001)


async def test_a_ping_that_crosses_our_close(scripted: ScriptedServer) -> None:
    """A server that pings instead of answering our Close ends the connection, and raises nothing."""

    async def script() -> None:
        await scripted.accept()
        await scripted.stream.receive_some()
        await scripted.stream.send_all(frame(9, b"?"))

    async with running(script), ws.connect("ws://server/", open_stream=scripted.open_stream):
        pass


async def test_a_silent_server_is_pinged_then_dropped(scripted: ScriptedServer) -> None:
    """After ``ping_interval`` of silence a ping goes out, after ``ping_timeout`` more it is over."""
    got = bytearray()

    async def script() -> None:
        await scripted.accept()
        while data := await scripted.stream.receive_some():
            got.extend(data)

    async with (
        running(script),
        ws.connect("ws://server/", open_stream=scripted.open_stream) as connection,
    ):
        await trio.sleep(19)
        assert not got
        await trio.sleep(2)
        assert got[0] == 0x89
        await trio.sleep(18)
        assert connection.close_reason is None
        await trio.sleep(2)
        assert connection.close_reason is not None
        assert connection.close_reason.code == 1006


def stand_still(seconds: float) -> None:
    """What has arrived waits in the stream when the clock goes on."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    clock.jump(seconds)


@pytest.mark.parametrize("_order", range(10))
async def test_a_pong_that_has_arrived_during_a_standstill_counts(
    scripted: ScriptedServer, _order: int
) -> None:
    """After the process stood still, what has arrived is read before the silence is judged (G14)."""

    async def script() -> None:
        await scripted.accept()
        ping = await scripted.stream.receive_some()
        await scripted.stream.send_all(frame(10, unmasked(ping)))
        stand_still(100)

    async with (
        running(script),
        ws.connect("ws://server/", open_stream=scripted.open_stream) as connection,
    ):
        await trio.sleep(121)
        assert connection.close_reason is None


@pytest.mark.parametrize("_order", range(10))
async def test_an_answer_that_has_arrived_during_a_standstill_opens(
    scripted: ScriptedServer, _order: int
) -> None:
    """``open_timeout`` is judged after the handshake that waits in the kernel was read (G14)."""

    async def script() -> None:
        await scripted.accept()
        stand_still(100)

    async with (
        running(script),
        ws.connect("ws://server/", open_stream=scripted.open_stream) as connection,
    ):
        assert connection.close_reason is None


async def test_any_traffic_counts_as_life(scripted: ScriptedServer) -> None:
    """A server that sends something but no pong stays connected, and is pinged only when it is silent."""
    got = bytearray()

    async def listen() -> None:
        while data := await scripted.stream.receive_some():
            got.extend(data)

    async def script() -> None:
        await scripted.accept()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            while True:
                await trio.sleep(15)
                await scripted.stream.send_all(frame(1, b"."))

    async with (
        running(script),
        ws.connect("ws://server/", open_stream=scripted.open_stream) as connection,
    ):
        with trio.move_on_after(196):
            async for _ in connection:
                pass
        assert connection.close_reason is None
        assert not got


async def test_an_application_that_is_behind_is_no_silent_server() -> None:
    """While nothing is read because the inbox is full, the server is not taken for dead."""

    async def handler(connection: ws.Connection) -> None:
        for _ in range(200):
            await connection.send(b"x" * 10_000)
        await connection.wait_closed()

    settings = ws.Settings(max_inbox_bytes=1000)
    async with (
        serving(handler, settings=ws.Settings(send_timeout=None, ping_interval=None)) as address,
        ws.connect(f"ws://{address}/", settings=settings) as connection,
    ):
        await trio.sleep(300)
        for _ in range(200):
            await connection.receive()


async def test_a_server_that_stops_reading_costs_send_timeout() -> None:
    """A write without progress for ``send_timeout`` ends the connection and its senders."""

    async def handler(_connection: ws.Connection) -> None:
        await trio.sleep_forever()

    settings = ws.Settings(max_inbox_bytes=1000, ping_interval=None)
    async with (
        serving(handler, settings=settings) as address,
        ws.connect(f"ws://{address}/", settings=ws.Settings(ping_interval=None)) as connection,
    ):
        before = trio.current_time()

        async def send_all() -> None:
            while True:
                await connection.send(b"x" * 1_000_000)

        with pytest.raises(ws.ConnectionClosed):
            await send_all()
        assert trio.current_time() - before == pytest.approx(20, abs=1)


async def test_a_message_that_is_too_big() -> None:
    """A message over ``max_message_size`` ends the connection with 1009, for both sides."""
    reasons = []

    async def handler(connection: ws.Connection) -> None:
        await connection.send(b"x" * 1001)
        await connection.wait_closed()
        reasons.append(connection.close_reason)

    async with (
        serving(handler) as address,
        ws.connect(f"ws://{address}/", settings=ws.Settings(max_message_size=1000)) as connection,
    ):
        assert [message async for message in connection] == []
        assert connection.close_reason is not None
        assert connection.close_reason.code == 1009
    assert reasons[0] is not None
    assert reasons[0].code == 1009


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"headers": {"X": "a\r\nb"}}, "header"),
        ({"headers": {"X Y": "a"}}, "header"),
        ({"headers": {"X": "ü"}}, "header"),
        ({"headers": {"Sec-WebSocket-Key": "x"}}, "sec-websocket-key"),
        ({"headers": {"Host": "x"}}, "host"),
        ({"subprotocols": ["a b"]}, "a b"),
        ({"subprotocols": ["a,b"]}, "a,b"),
        ({"subprotocols": [""]}, "name of a subprotocol"),
        ({"ssl_context": ssl.create_default_context()}, "wss://"),
    ],
)
async def test_what_cannot_be_sent(options: dict[str, object], problem: str) -> None:
    """Headers and options that make no sense raise ValueError before anything is opened."""
    with pytest.raises(ValueError, match=problem):
        async with ws.connect("ws://nowhere.invalid/", **options):
            pytest.fail("there is no connection")


async def test_unix_sockets(tmp_path: Path) -> None:
    """``open_stream`` reaches a server on a Unix socket."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "s"))  # Trio's own bind uses a thread, which virtual time does not wait for
    sock.listen()
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ws.serve, echo, listeners=[listener]))
        opener = partial(trio.open_unix_socket, tmp_path / "s")
        async with ws.connect("ws://localhost/", open_stream=opener) as connection:
            assert await connection.receive() == "hello from None, None"
        server.cancel()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def serving_tls(authority: trustme.CA) -> AsyncIterator[str]:
    context = presenting(authority, "127.0.0.1")
    async with serving(ssl_context=context) as address:
        yield address


async def test_tls(authority: trustme.CA) -> None:
    """``wss://`` with a context that trusts the server's authority."""
    context = trusting(authority)
    with assert_nothing_left():
        async with (
            serving_tls(authority) as address,
            ws.connect(f"wss://{address}/", ssl_context=context) as connection,
        ):
            await connection.receive()
            await connection.send("x" * 300_000)
            assert await connection.receive() == "x" * 300_000


async def test_a_server_that_cannot_be_trusted(authority: trustme.CA) -> None:
    """A certificate of an unknown authority is an ``ssl.SSLError``, and nothing stays open."""
    with assert_nothing_left():
        async with serving_tls(authority) as address:
            with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
                async with ws.connect(f"wss://{address}/"):
                    pytest.fail("there is no connection")


async def test_a_server_without_tls() -> None:
    """``wss://`` to a plain server fails as TLS does, at once."""
    async with serving() as address:
        with trio.fail_after(1), pytest.raises(ssl.SSLError):
            async with ws.connect(f"wss://{address}/"):
                pytest.fail("there is no connection")


async def test_a_server_that_hangs_up_during_the_tls_handshake() -> None:
    """It is 1006, as before an answer."""

    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, hang_up, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        with trio.fail_after(PATIENCE), pytest.raises(ws.ConnectionClosed, match="TLS handshake") as caught:
            async with ws.connect(f"wss://127.0.0.1:{port}"):
                pytest.fail("there is no connection")
        nursery.cancel_scope.cancel()
    assert caught.value.reason.code == 1006


async def test_a_server_that_speaks_no_tls() -> None:
    """What OpenSSL says of it comes out, without a broken resource around it."""
    async with serving() as address:
        with trio.fail_after(PATIENCE), pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
            async with ws.connect(f"wss://{address}"):
                pytest.fail("there is no connection")
