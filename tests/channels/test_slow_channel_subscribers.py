"""A slow subscriber costs only itself (G10): what happens to what does not fit is said for each channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from protocol_client import PATIENCE, ProtocolClient, connected
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.broker import MemoryBroker
from trio_ws_app.testing import MemoryServer, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")

SIZE = 1000  # of what is published
SETTINGS = ws.Settings(max_queue_bytes=20 * SIZE, send_timeout=1000)


def application(**options: Any) -> ws.ChannelsApp:
    channels = ws.Channels(limits=ws.ChannelLimits(ping_interval=1000))

    async def stay(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        await trio.sleep_forever()

    channels.subscription("it", **options)(stay)
    channels.subscription("other")(stay)
    return channels.app()


@asynccontextmanager
async def served(app: ws.ChannelsApp) -> AsyncIterator[MemoryServer]:
    with trio.fail_after(PATIENCE):
        async with serve_in_memory(app, settings=SETTINGS) as server:
            yield server


async def slow_and_quick(server: MemoryServer) -> tuple[ProtocolClient, ProtocolClient]:
    """Two subscribers, of which the first reads nothing for now."""
    slow = ProtocolClient(await server.connect(capacity=2 * SIZE))
    await slow.call("connect")
    quick = await connected(server)
    for client in (slow, quick):
        await client.call("subscribe", channel="it")
    slow.peer.stream.stall()
    return slow, quick


async def flood(app: ws.ChannelsApp, quick: ProtocolClient, count: int = 100) -> None:
    """Publish more than fits; the quick one gets it all."""
    for number in range(count):
        await app.publish("it", [number, SIZE * "x"])
        assert (await quick.push("pub"))["data"][0] == number
    await wait_all_tasks_blocked()


async def numbers(client: ProtocolClient, until: int) -> list[int]:
    """What a client gets, until that number."""
    found: list[int] = []
    while until not in found:
        found.append((await client.push("pub"))["data"][0])
    return found


@pytest.mark.parametrize("history", [None, ws.History(100, 300)])
async def test_by_default_it_is_disconnected(history: ws.History | None) -> None:
    """With 3008, and may come back; what waited is given up."""
    app = application(history=history)
    async with served(app) as server:
        slow, quick = await slow_and_quick(server)
        await flood(app, quick)
        assert len(app.clients) == 1
        slow.peer.stream.resume()
        assert await slow.ended() == 3008
        assert len(slow.pushes) < 5


async def test_a_slow_subscriber_may_be_unsubscribed_alone() -> None:
    """With 2500; it keeps its other channels, and recovers."""
    app = application(history=ws.History(200, 300), overflow="unsubscribe")
    async with served(app) as server:
        slow, quick = await slow_and_quick(server)
        await flood(app, quick)
        slow.peer.stream.resume()
        assert (await slow.push("unsubscribe"))["code"] == 2500
        await slow.call("subscribe", channel="other")
        got = [push["pub"] for push in slow.pushes]
        slow.pushes.clear()
        place = {"epoch": got[-1]["epoch"], "offset": got[-1]["offset"]}
        result = await slow.call("subscribe", channel="it", recover=True, **place)
        assert result["recovered"] is True
        seen = [publication["data"][0] for publication in [*got, *result["publications"]]]
        assert seen + await numbers(slow, 99) == list(range(100))


@pytest.mark.parametrize(
    ("overflow", "first", "last"), [("drop-newest", 0, 10), ("drop-oldest", 0, 99), ("latest", 0, 99)]
)
async def test_publications_may_be_dropped(overflow: str, first: int, last: int) -> None:
    """The newest, the oldest, or all but the latest."""
    app = application(overflow=overflow)
    async with served(app) as server:
        slow, quick = await slow_and_quick(server)
        await flood(app, quick)
        slow.peer.stream.resume()
        got = await numbers(slow, last)
        assert got[0] == first
        assert got == sorted(got)
        assert len(got) < (6 if overflow == "latest" else 40)
        assert len(app.clients) == 2


@pytest.mark.parametrize("behind", [0, 100])
async def test_a_client_that_has_missed_much_is_sent_it_as_it_takes_it(behind: int) -> None:
    """The reply waits for what is queued already, and has not all; nothing is lost, then or meanwhile."""
    app = application(history=ws.History(1000, 300))
    async with served(app) as server:
        for number in range(150):
            await app.publish("it", [number, SIZE * "x"])
        (first,) = await app.history("it", limit=1)
        place = {"epoch": str(first.position), "offset": 1}
        slow = ProtocolClient(await server.connect(capacity=2 * SIZE))
        await slow.call("connect")
        calls = [slow.command("history", channel="other") for _ in range(behind)]
        command = slow.command("subscribe", channel="it", recover=True, **place)
        slow.peer.stream.stall()
        await slow.say(*calls, command)
        await wait_all_tasks_blocked()
        for number in range(150, 300):
            await app.publish("it", [number, SIZE * "x"])
            await wait_all_tasks_blocked()
        slow.peer.stream.resume()
        result = (await slow.reply_to(command["id"]))["subscribe"]
        assert result["recovered"] is True
        got = [publication["data"][0] for publication in result["publications"]]
        assert 50 < len(got) < 100
        assert got + await numbers(slow, 299) == list(range(1, 300))
        await app.publish("it", [300, ""])
        assert await numbers(slow, 300) == [300]


@pytest.mark.parametrize("before", [0, 5])
async def test_what_is_not_kept_until_a_slow_client_takes_it_brings_it_back(before: int) -> None:
    """With 2500 (G11), also if the channel had no publication when its reply began to wait."""
    channels = ws.Channels()

    @channels.subscription("{name}", history=ws.History(10, 300))
    async def answer_much(subscription: ws.ChannelSubscription, **_name: str) -> None:
        await subscription.accept(data=50 * SIZE * "x")
        await trio.sleep_forever()

    app = channels.app()
    async with served(app) as server:
        for number in range(before):
            await app.publish("it", number)
        slow = ProtocolClient(await server.connect(capacity=2 * SIZE))
        await slow.call("connect")
        slow.peer.stream.stall()
        for channel in ("1", "2", "3", "it"):  # the answers to the others fill the queue
            command = slow.command("subscribe", channel=channel)
            await slow.say(command)
            await wait_all_tasks_blocked()
        for number in range(20):
            await app.publish("it", number)
        slow.peer.stream.resume()
        assert "subscribe" in await slow.reply_to(command["id"])
        assert (await slow.push("unsubscribe"))["code"] == 2500
        assert not slow.pushes


async def test_what_promises_to_recover_loses_nothing() -> None:
    """A policy that would is a mistake, unless only the last publication counts."""
    for overflow in ("drop-newest", "drop-oldest", "latest"):
        with pytest.raises(ValueError, match="would lose"):
            application(history=ws.History(1, 1), overflow=overflow)
        application(history=ws.History(1, 1), overflow=overflow, recovery="cache")
    for options in ({"overflow": "unknown"}, {"recovery": "unknown"}):
        with pytest.raises(ValueError, match="unknown"):
            application(**options)


async def test_one_large_answer_of_a_client_waits_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are read only when it is taken, so commands of a few bytes do not fill the memory."""
    looks: list[str] = []
    history = MemoryBroker.history

    async def counted(broker: MemoryBroker, topic: str, **page: Any) -> object:
        looks.append(topic)
        return await history(broker, topic, **page)

    monkeypatch.setattr(MemoryBroker, "history", counted)
    app = application(history=ws.History(50, 60))
    async with served(app) as server:
        slow, _ = await slow_and_quick(server)
        for number in range(15):
            await app.publish("it", [number, SIZE * "x"])
        await slow.say(*(slow.command("history", channel="it", limit=-1) for _ in range(20)))
        await wait_all_tasks_blocked()
        assert len(looks) < 20  # two for each answer
        slow.peer.stream.resume()
