"""What the server answers to requests that do not become WebSocket connections."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing
from serving import answer_to, echo, get, serving, status_of, upgrade

import trio_ws_app as ws
from trio_ws_app.testing import assert_nothing_left, serve_in_memory


async def test_health_checks() -> None:
    """/healthz and /readyz answer on the same port; while draining, the server is not ready."""
    leave = trio.Event()

    async def stay(_connection: ws.Connection) -> None:
        await leave.wait()

    async with serving(stay) as server, trio.open_nursery() as nursery:
        assert await status_of(server.port, get("/healthz")) == 200
        assert await status_of(server.port, get("/readyz")) == 200
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as client:
            await client.send_all(upgrade())
            assert b"101" in await client.receive_some()
            nursery.start_soon(server.drain)
            await trio.testing.wait_all_tasks_blocked()
            assert await status_of(server.port, get("/healthz")) == 200
            assert await status_of(server.port, get("/readyz")) == 503
            assert await status_of(server.port, upgrade()) == 503
            leave.set()


async def test_plain_http_is_told_to_upgrade() -> None:
    """A browser that is not expected gets 426 and the Upgrade header."""
    async with serving() as server:
        answer = await answer_to(server.port, get("/"))
        assert answer.startswith("HTTP/1.1 426 ")
        assert "Upgrade: websocket" in answer


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        (("same-host",), "http://localhost", 101),
        (("same-host",), "https://evil.example", 403),
        (("https://good.example",), "https://good.example", 101),
        (("https://good.example",), "https://evil.example", 403),
        (("*",), "https://evil.example", 101),
    ],
)
async def test_origins(origins: tuple[str, ...], origin: str, status: int) -> None:
    """Browsers of other sites are refused unless they are allowed."""
    async with serving(settings=ws.Settings(origins=origins)) as server:
        assert await status_of(server.port, upgrade(Origin=origin)) == status


async def test_one_more_than_max_connections_is_refused() -> None:
    """The server is full at max_connections, and has room again when one has left."""
    async with serving(settings=ws.Settings(max_connections=1)) as server:
        async with ws.connect(f"ws://127.0.0.1:{server.port}"):
            assert await status_of(server.port, upgrade()) == 503
        while server.connections:
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert await status_of(server.port, upgrade()) == 101


async def test_one_more_than_max_connections_per_address_is_refused() -> None:
    """Another address has connections of its own."""
    async with (
        serving(settings=ws.Settings(max_connections_per_address=1)) as server,
        ws.connect(f"ws://127.0.0.1:{server.port}"),
    ):
        assert await status_of(server.port, upgrade()) == 503
        other = trio.socket.socket()
        await other.bind(("127.0.0.2", 0))
        await other.connect(("127.0.0.1", server.port))
        async with trio.SocketStream(other) as stream:
            await stream.send_all(upgrade())
            assert b" 101 " in await stream.receive_some()


@pytest.mark.parametrize("waits", [False, True])
async def test_process_request_may_answer(waits: bool) -> None:
    """A plain or async hook answers instead of the upgrade, or lets it pass."""

    def plain(request: ws.Request) -> ws.Response | None:
        return None if request.query.get("key") == "right" else ws.Response(401, "who are you?\n")

    async def waiting(request: ws.Request) -> ws.Response | None:
        await trio.lowlevel.checkpoint()
        return plain(request)

    async with serving(process_request=waiting if waits else plain) as server:
        answer = await answer_to(server.port, upgrade("/?key=wrong"))
        assert answer.startswith("HTTP/1.1 401 ")
        assert await status_of(server.port, upgrade("/?key=right")) == 101


async def test_a_bug_in_process_request_is_one_500(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets 500, the log one record, the next client is served."""

    async def broken(request: ws.Request) -> ws.Response | None:
        if request.path == "/broken":
            raise LookupError("a bug")
        return None

    async with serving(process_request=broken) as server:
        assert await status_of(server.port, upgrade("/broken")) == 500
        assert await status_of(server.port, upgrade("/")) == 101
    assert [record.levelno for record in caplog.records if record.levelno >= logging.WARNING] == [
        logging.ERROR
    ]


async def test_a_client_that_leaves_cancels_its_process_request() -> None:
    """Nothing waits for the application's answer to a client that is gone."""
    asked, cancelled = trio.Event(), trio.Event()

    async def forever(_request: ws.Request) -> ws.Response | None:
        asked.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with serving(process_request=forever) as server:
        async with await trio.open_tcp_stream("127.0.0.1", server.port) as client:
            await client.send_all(upgrade())
            await asked.wait()
        await cancelled.wait()


async def test_probes_leave_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    """Garbage, silence and resets cost at most a DEBUG line each, and no descriptor."""
    with assert_nothing_left():
        async with serving(settings=ws.Settings(open_timeout=0.2)) as server:
            for greeting in (
                b"",
                b"\x16\x03\x01\x02\x00",
                b"SSH-2.0-x\r\n",
                b"GET / HTTP/1.1\r\nHo",
                bytes(500),
            ):
                async with await trio.open_tcp_stream("127.0.0.1", server.port) as client:
                    if greeting:
                        await client.send_all(greeting)
            silent = await trio.open_tcp_stream("127.0.0.1", server.port)
            assert await silent.receive_some() == b""  # open_timeout is over
            await silent.aclose()
            assert await status_of(server.port, upgrade()) == 101
            assert sum(server.statistics().refused.values()) >= 5
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


async def test_a_handler_must_be_async() -> None:
    """A plain function is refused before anything listens, with what would be right."""

    def handler(connection: ws.Connection) -> None: ...

    with pytest.raises(TypeError, match="async function"):
        await ws.serve(handler, 0)  # type: ignore[arg-type]


@pytest.mark.usefixtures("autojump_clock")
async def test_a_refused_origin_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """At WARNING, with the option that would allow it; each origin by itself."""
    async with serve_in_memory(echo) as memory:

        async def refused(origin: str) -> int:
            caplog.clear()
            with pytest.raises(ws.HandshakeRefused) as caught:
                await memory.connect(headers=[("Origin", origin)])
            assert caught.value.status == 403
            lines = [record for record in caplog.records if record.levelno == logging.WARNING]
            assert all(f"--origins {origin}" in line.getMessage() for line in lines)
            return len(lines)

        assert [await refused("https://one.example") for _ in range(3)] == [1, 0, 0]
        await trio.sleep(30)
        assert await refused("https://two.example") == 1
        await trio.sleep(29)
        assert await refused("https://one.example") == 0
        await trio.sleep(2)
        assert await refused("https://one.example") == 1
        assert await refused("https://two.example") == 0


@pytest.mark.usefixtures("autojump_clock")
async def test_made_up_origins_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand within a minute are a hundred lines; the minute after, they are logged again."""
    async with serve_in_memory(echo) as memory:
        for minute in range(2):
            caplog.clear()
            for number in range(1000):
                with pytest.raises(ws.HandshakeRefused):
                    await memory.connect(headers=[("Origin", f"https://{minute}-{number}.example")])
            assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 100
            await trio.sleep(61)


async def test_a_client_that_goes_before_its_request_has_a_debug_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With its address, whether it has said something or not."""
    caplog.set_level(logging.DEBUG, "trio_ws_app")
    async with serving() as server:
        for greeting in (b"", b"GET / HT"):
            caplog.clear()
            stream = await trio.open_tcp_stream("127.0.0.1", server.port)
            if greeting:
                await stream.send_all(greeting)
            remote = f"127.0.0.1:{stream.socket.getsockname()[1]}"
            await stream.aclose()
            await trio.sleep(0.05)
            lines = [record.getMessage() for record in caplog.records if remote in record.getMessage()]
            assert lines == [f"{remote}: gone before a request"]
