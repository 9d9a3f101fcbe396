"""What one connection, one user and one address may do in a second, and how old a connection may become."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
from raw_client import client_frame, open_websocket
from running import PATIENCE
from serving import answer_to, echo, get, serving, status_of, upgrade

import trio_ws_app as ws

Handler = Callable[[ws.Connection], Awaitable[None]]


async def plain(connection: ws.Connection) -> None:
    """An echo in a plain function."""
    await ws.consume(connection, connection.send_nowait)


async def received(url: str, count: int, size: int = 1) -> tuple[list[str], float, int | None]:
    """What comes back of so many messages that are sent at once, how long it takes, and the close code."""
    answers: list[str] = []
    began = trio.current_time()
    async with ws.connect(url) as client:
        with suppress(ws.ConnectionClosed):
            for number in range(count):
                await client.send(f"{number}".rjust(size))
        try:
            for _ in range(count):
                with trio.fail_after(3):
                    answers.append(str(await client.receive()).strip())
        except (ws.ConnectionClosed, trio.TooSlowError):
            pass
        reason = client.close_reason
    return answers, trio.current_time() - began, None if reason is None else reason.code


@pytest.mark.parametrize("handler", [echo, plain])
async def test_what_comes_faster_is_read_later(handler: Handler) -> None:
    """A second's worth at once, then as the rate has it; nothing is lost, and all in order."""
    settings = ws.Settings(max_messages_per_second=20)
    async with serving(handler, settings=settings) as server:
        answers, seconds, _ = await received(f"ws://127.0.0.1:{server.port}", 30)
        assert answers == [str(number) for number in range(30)]
        assert 0.45 < seconds < 3


@pytest.mark.parametrize("handler", [echo, plain])
async def test_what_comes_faster_is_dropped(handler: Handler) -> None:
    """And counted; the connection goes on."""
    settings = ws.Settings(max_messages_per_second=5, rate_policy="drop")
    async with serving(handler, settings=settings) as server:
        async with ws.connect(f"ws://127.0.0.1:{server.port}") as client:
            for number in range(2000):
                await client.send(str(number))
            assert [await client.receive() for _ in range(5)] == [str(number) for number in range(5)]
            await trio.sleep(0.4)
            await client.send("again")
            while await client.receive() != "again":
                pass
        assert server.statistics().drops["rate"] > 1900


@pytest.mark.parametrize("handler", [echo, plain])
async def test_what_comes_faster_closes(handler: Handler) -> None:
    """With 1008, after the answers to what was in time; the handler ends as with any peer that closes."""
    settings = ws.Settings(max_messages_per_second=5, rate_policy="close")
    async with serving(handler, settings=settings) as server:
        answers, _, code = await received(f"ws://127.0.0.1:{server.port}", 20)
        assert answers == [str(number) for number in range(5)]
        assert code == 1008
        assert server.statistics().failed == 0


async def test_bytes_are_limited_as_messages_are() -> None:
    """With an overhead for each, and a message larger than a second's worth is only slow."""
    settings = ws.Settings(max_bytes_per_second=10_000)
    async with serving(echo, settings=settings) as server:
        answers, seconds, _ = await received(f"ws://127.0.0.1:{server.port}", 4, size=4000)
        assert len(answers) == 4
        assert 0.2 < seconds < 3


async def test_a_handler_that_waits_for_its_turn_learns_of_the_end() -> None:
    """At once, and not when its turn would have come (G9)."""
    ended = trio.Event()

    async def handler(connection: ws.Connection) -> None:
        try:
            async for _ in connection:
                pass
        finally:
            ended.set()

    settings = ws.Settings(max_messages_per_second=0.01)
    async with serving(handler, settings=settings) as server:
        client = await open_websocket(server.port)
        await client.send(client_frame(1, b"one") + client_frame(1, b"two"))
        await trio.sleep(0.05)
        client.close()
        with trio.fail_after(3):
            await ended.wait()


async def test_a_connection_becomes_old() -> None:
    """It gets 1012 at about the age, so that its client comes back."""
    async with serving(settings=ws.Settings(max_connection_age=0.2)) as server:
        began = trio.current_time()
        async with ws.connect(f"ws://127.0.0.1:{server.port}") as client:
            with pytest.raises(ws.ConnectionClosed), trio.fail_after(PATIENCE):
                await client.receive()
            assert client.close_reason is not None
            assert client.close_reason.code == 1012
        assert trio.current_time() - began > 0.17


async def test_ages_are_not_all_the_same() -> None:
    """They differ by up to a tenth each way: clients do not all come back at once."""
    async with serving(settings=ws.Settings(max_connection_age=1)) as server:
        ends = []
        async with trio.open_nursery() as nursery:

            async def live() -> None:
                async with ws.connect(f"ws://127.0.0.1:{server.port}") as client:
                    await client.wait_closed()
                    ends.append(trio.current_time())

            began = trio.current_time()
            for _ in range(30):
                nursery.start_soon(live)
        assert max(ends) - min(ends) > 0.05
        assert began + 0.9 <= min(ends)


async def test_a_users_connections_are_bounded() -> None:
    """By what process_request has put into the state, or its ``id``; they are free again at their end."""

    class Person:
        def __init__(self, name: str) -> None:
            self.id = name

    def authenticate(request: ws.Request) -> None:
        name = request.query.get("user")
        if name is not None:
            request.state.user = Person(name) if "x" in request.query else name

    settings = ws.Settings(max_connections_per_user=2)
    async with serving(settings=settings, process_request=authenticate) as server:
        url = f"ws://127.0.0.1:{server.port}/?user="
        async with ws.connect(url + "ann"), ws.connect(url + "ann&x"):
            assert await status_of(server.port, upgrade("/?user=ann&x")) == 429
            assert await status_of(server.port, upgrade("/?user=bob")) == 101
            assert await status_of(server.port, upgrade("/")) == 101
        async with ws.connect(url + "ann"):
            pass


async def test_handshakes_of_one_address_are_bounded() -> None:
    """So many at once, then as the rate has it; other addresses are not concerned."""
    settings = ws.Settings(max_handshakes_per_second=3, trusted_proxies=("127.0.0.1",))
    async with serving(settings=settings) as server:

        async def ask(client: str) -> int:
            answer = await answer_to(server.port, upgrade(X_Forwarded_For=client))
            return int(answer.split()[1])

        assert [await ask("203.0.113.1") for _ in range(4)] == [101, 101, 101, 429]
        assert [await ask("203.0.113.2") for _ in range(2)] == [101, 101]
        await trio.sleep(0.4)
        assert await ask("203.0.113.1") == 101
    async with serving(settings=ws.Settings(max_handshakes_per_second=3)) as server:
        answers = [await status_of(server.port, get("/healthz")) for _ in range(4)]
        assert answers == [200, 200, 200, 503]


async def test_a_handshake_beyond_the_rate_is_not_decided_on() -> None:
    """The hook is not asked about it, and it becomes no connection."""
    asked: list[ws.Request] = []
    settings = ws.Settings(max_handshakes_per_second=1, trusted_proxies=("127.0.0.1",))
    async with serving(settings=settings, process_request=asked.append) as server:
        answers = [await answer_to(server.port, upgrade(X_Forwarded_For="203.0.113.1")) for _ in range(3)]
        assert [answer.split()[1] for answer in answers] == ["101", "429", "429"]
        assert len(asked) == server.statistics().accepted == 1


def test_the_policy_is_one_of_three() -> None:
    """Another word is a mistake."""
    with pytest.raises(ValueError, match="slow, drop, close"):
        ws.Settings(rate_policy="wait")
