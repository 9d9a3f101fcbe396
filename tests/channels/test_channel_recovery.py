"""What a client has missed: all of it or none, and the client is told which (G11)."""

from __future__ import annotations

import copy
import tracemalloc
from typing import Any

import pytest
import trio
from protocol_client import ProtocolClient, connected, served
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.broker import MemoryBroker

pytestmark = pytest.mark.usefixtures("autojump_clock")


def application(size: int = 100, limits: ws.ChannelLimits | None = None) -> ws.ChannelsApp:
    channels = ws.Channels(limits=limits)

    async def stay(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        await trio.sleep_forever()

    channels.subscription("stream", history=ws.History(size, 300))(stay)
    channels.subscription("cache", history=ws.History(1, 300), recovery="cache")(stay)
    return channels.app()


class Reader:
    """A client that keeps its place: the newest epoch that it was told, or only that of its subscription."""

    def __init__(self, client: ProtocolClient, *, keeps_first_epoch: bool, channel: str = "stream") -> None:
        self.client = client
        self.channel = channel
        self.keeps_first_epoch = keeps_first_epoch
        self.epoch, self.offset = "", 0
        self.seen: list[object] = []

    async def subscribe(self, **fields: Any) -> dict[str, Any]:
        result = await self.client.call("subscribe", channel=self.channel, **fields)
        self.epoch, self.offset = result["epoch"], result["offset"]
        for publication in result.get("publications", ()):
            self.take(publication)
        return result

    async def recover(self, client: ProtocolClient, **fields: Any) -> dict[str, Any]:
        """Come back over another connection."""
        self.client = client
        return await self.subscribe(recover=True, epoch=self.epoch, offset=self.offset, **fields)

    async def read(self, count: int) -> None:
        for _ in range(count):
            self.take(await self.client.push("pub"))

    def take(self, publication: dict[str, Any]) -> None:
        self.seen.append(publication["data"])
        self.offset = publication["offset"]
        if not self.keeps_first_epoch:
            self.epoch = publication["epoch"]


EACH_READER = pytest.mark.parametrize("keeps_first_epoch", [False, True])


@EACH_READER
@pytest.mark.parametrize("before", [0, 1, 5])
@pytest.mark.parametrize("live", [0, 1, 3])
@pytest.mark.parametrize("missed", [0, 1, 4])
async def test_what_was_missed_comes_in_order(
    keeps_first_epoch: bool, before: int, live: int, missed: int
) -> None:
    """Whatever was there before, was seen live, and was missed; again and again."""
    app = application()
    async with served(app) as server:
        numbers = iter(range(1000))
        for _ in range(before):
            await app.publish("stream", next(numbers))
        reader = Reader(await connected(server), keeps_first_epoch=keeps_first_epoch)
        result = await reader.subscribe()
        assert "was_recovering" not in result
        for _ in range(3):
            for _ in range(live):
                await app.publish("stream", next(numbers))
            await reader.read(live)
            await reader.client.peer.aclose()
            for _ in range(missed):
                await app.publish("stream", next(numbers))
            result = await reader.recover(await connected(server))
            assert (result["was_recovering"], result["recovered"]) == (True, True)
            assert len(result.get("publications", ())) == missed
        assert reader.seen == list(range(before, next(numbers)))


@EACH_READER
async def test_what_is_not_kept_whole_is_not_recovered(keeps_first_epoch: bool) -> None:
    """None of it comes, but the place where the client is then."""
    app = application(size=3)
    async with served(app) as server:
        reader = Reader(await connected(server), keeps_first_epoch=keeps_first_epoch)
        await app.publish("stream", 0)
        await reader.subscribe()
        await app.publish("stream", 1)
        await reader.read(1)
        for number in range(2, 6):
            await app.publish("stream", number)
        result = await reader.recover(await connected(server))
        assert (result["was_recovering"], result["recovered"]) == (True, False)
        assert "publications" not in result
        assert result["offset"] == 6
        await app.publish("stream", 6)
        await reader.read(1)
        assert reader.seen == [1, 6]


async def test_the_first_of_all_may_be_gone() -> None:
    """There was nothing when the client went, and too much since."""
    app = application(size=3)
    async with served(app) as server:
        reader = Reader(await connected(server), keeps_first_epoch=False)
        await reader.subscribe()
        await reader.client.peer.aclose()
        for number in range(4):
            await app.publish("stream", number)
        assert (await reader.recover(await connected(server)))["recovered"] is False


@EACH_READER
async def test_the_newest_that_are_kept_are_enough(keeps_first_epoch: bool) -> None:
    """Although the place of the subscription's beginning is not kept any more."""
    app = application(size=3)
    async with served(app) as server:
        await app.publish("stream", 0)
        reader = Reader(await connected(server), keeps_first_epoch=keeps_first_epoch)
        await reader.subscribe()
        for number in range(1, 6):
            await app.publish("stream", number)
        await reader.read(5)
        for number in range(6, 9):
            await app.publish("stream", number)
        assert (await reader.recover(await connected(server)))["recovered"] is True
        assert reader.seen == list(range(1, 9))


@EACH_READER
async def test_another_history_with_the_same_offsets_is_not_taken_for_the_same(
    keeps_first_epoch: bool,
) -> None:
    """As after a server came back without its newest messages: the tags tell the two apart.

    A client that keeps its first epoch is told so only if that is of the part that is another's.
    """
    broker = MemoryBroker()
    app = channels_on(broker)
    async with served(app) as server:
        await app.publish("stream", "kept")
        as_it_was = copy.deepcopy(broker._histories)
        if keeps_first_epoch:
            await app.publish("stream", "lost")
        reader = Reader(await connected(server), keeps_first_epoch=keeps_first_epoch)
        await reader.subscribe()
        for _ in range(2):
            await app.publish("stream", "lost, too")
        await reader.read(2)
        await reader.client.peer.aclose()
        await wait_all_tasks_blocked()
        broker._histories = as_it_was
        for text in ("another", "and more", "and more", "and more"):
            await app.publish("stream", text)
        assert reader.offset in (3, 4)
        result = await reader.recover(await connected(server))
        assert (result["recovered"], result["offset"]) == (False, 5)


def channels_on(broker: ws.Broker, ttl: float = 300) -> ws.ChannelsApp:
    """The application with another broker."""
    channels = ws.Channels()

    @channels.subscription("stream", history=ws.History(100, ttl))
    async def stream(subscription: ws.ChannelSubscription) -> None:
        await subscription.accept()
        await trio.sleep_forever()

    return channels.app(broker)


@pytest.mark.parametrize(
    ("epoch", "offset"),
    [("", 1), ("_", 0), ("x", 5), ("1-1-1", 0), ("1-1-1", 1), ("empty-x", 0), ("empty-0", 0), ("empty-1", 7)],
)
async def test_a_place_that_is_none_is_not_recovered(epoch: str, offset: int) -> None:
    """Whatever a client says, it is told the place where it is."""
    app = application()
    async with served(app) as server:
        await app.publish("stream", 0)
        client = await connected(server)
        result = await client.call("subscribe", channel="stream", recover=True, epoch=epoch, offset=offset)
        assert (result["was_recovering"], result["recovered"], result["offset"]) == (True, False, 1)


@pytest.mark.parametrize(("published", "recovered"), [(0, True), (3, True), (100, True), (101, False)])
async def test_a_client_that_has_seen_nothing_recovers_a_whole_history(
    published: int, recovered: bool
) -> None:
    """Without an epoch, from offset 0: all there is, unless its beginning is not kept any more."""
    async with ws.open_memory_broker() as broker:
        app = channels_on(broker)
        async with served(app) as server:
            for number in range(published):
                await app.publish("stream", number)
            client = await connected(server)
            result = await client.call("subscribe", channel="stream", recover=True, epoch="", offset=0)
            assert result["recovered"] is recovered
            got = [one["data"] for one in result.get("publications", [])]
            while recovered and len(got) < published:
                got.append((await client.push("pub"))["data"])
            assert got == (list(range(published)) if recovered else [])


async def test_an_offset_from_the_future_is_not_recovered() -> None:
    """Of the right history, but further than it goes."""
    app = application()
    async with served(app) as server:
        await app.publish("stream", 0)
        client = await connected(server)
        place = await client.call("subscribe", channel="stream")
        await client.call("unsubscribe", channel="stream")
        for offset in (2, 100, 2**62):
            result = await client.call(
                "subscribe", channel="stream", recover=True, epoch=place["epoch"], offset=offset
            )
            assert result["recovered"] is False
            await client.call("unsubscribe", channel="stream")


async def test_a_client_may_want_all_or_nothing() -> None:
    """Error 112 instead of a subscription that has lost something."""
    app = application()
    async with served(app) as server:
        client = await connected(server)
        fields = {"channel": "stream", "recover": True, "epoch": "x", "offset": 1}
        assert await client.error("subscribe", **fields, flag=2) == 112
        assert (await client.call("subscribe", **fields, flag=1))["recovered"] is False


async def test_a_channel_without_messages_has_its_epoch_already() -> None:
    """Who begins before the first message recovers it by that, whatever of its place it keeps."""
    app = application()
    async with served(app) as server:
        client = await connected(server)
        place = await client.call("subscribe", channel="stream")
        fields = {"channel": "stream", "recover": True, "epoch": place["epoch"]}
        for count, offset in ((0, 0), (1, 0), (2, 0), (2, 1), (2, 2)):
            await client.call("unsubscribe", channel="stream")
            while len(await app.history("stream")) < count:
                await app.publish("stream", "x")
            result = await client.call("subscribe", **fields, offset=offset)
            assert result["recovered"]
            assert len(result.get("publications", [])) == count - offset


@pytest.mark.parametrize("offset", [0, 1])
async def test_another_history_than_the_one_that_was_to_begin_is_not_recovered(offset: int) -> None:
    """What it began with is lost: the same offsets are those of other messages."""
    broker = ws.open_memory_broker()
    async with broker as kept, served(channels_on(kept)) as server:
        client = await connected(server)
        place = await client.call("subscribe", channel="stream")
        await client.peer.aclose()
    async with ws.open_memory_broker() as empty:
        app = channels_on(empty)
        async with served(app) as server:
            await app.publish("stream", "another")
            client = await connected(server)
            fields = {"channel": "stream", "recover": True, "epoch": place["epoch"]}
            result = await client.call("subscribe", **fields, offset=offset)
            assert result["recovered"] is False


async def test_a_reserved_epoch_ends_with_its_time() -> None:
    """What was published and has expired since could have been missed."""
    async with ws.open_memory_broker() as broker, served(channels_on(broker, ttl=30)) as server:
        client = await connected(server)
        place = await client.call("subscribe", channel="stream")
        for wait, recovered in ((20, True), (20, True), (31, False)):
            await client.peer.aclose()
            await trio.sleep(wait)
            client = await connected(server)
            fields = {"channel": "stream", "recover": True, "epoch": place["epoch"]}
            assert (await client.call("subscribe", **fields, offset=0))["recovered"] is recovered


async def test_too_much_to_recover_is_not_recovered() -> None:
    """In number and in bytes."""
    limits = ws.ChannelLimits(max_recovered=3, max_recovered_bytes=10_000)
    app = application(limits=limits)
    async with served(app) as server:
        for data, recovered in (
            (["x"] * 3, True),
            (["x"] * 4, False),
            ([9000 * "x"], True),
            ([11_000 * "x"], False),
        ):
            reader = Reader(await connected(server), keeps_first_epoch=False)
            await reader.subscribe()
            await reader.client.peer.aclose()
            for value in data:
                await app.publish("stream", value)
            assert (await reader.recover(await connected(server)))["recovered"] is recovered


async def test_a_cache_has_the_last_publication() -> None:
    """For a client that comes for the first time too, and not again for one that has it."""
    app = application()
    async with served(app) as server:
        reader = Reader(await connected(server), keeps_first_epoch=False, channel="cache")
        result = await reader.subscribe()
        assert (result["was_recovering"], result["recovered"]) == (True, False)
        for number in range(3):
            await app.publish("cache", number)
        await reader.read(3)
        result = await reader.recover(await connected(server))
        assert result["recovered"] is True
        assert "publications" not in result
        for number in range(3, 6):
            await app.publish("cache", number)
        assert (await reader.recover(await connected(server)))["recovered"] is True
        assert reader.seen == [0, 1, 2, 5]
        newcomer = Reader(await connected(server), keeps_first_epoch=False, channel="cache")
        await newcomer.subscribe()
        assert newcomer.seen == [5]


async def test_pages_of_the_history_lead_from_one_to_the_next() -> None:
    """Forwards and backwards, with the epoch of the answer."""
    app = application()
    async with served(app) as server:
        client = await connected(server)
        await client.call("subscribe", channel="stream")
        empty = await client.call("history", channel="stream", limit=10)
        assert (empty["offset"], "publications" in empty) == (0, False)
        for number in range(5):
            await app.publish("stream", number)
        top = await client.call("history", channel="stream")
        assert (top["offset"], "publications" in top) == (5, False)
        for reverse, pages in ((False, [[0, 1], [2, 3], [4], []]), (True, [[4, 3], [2, 1], [0], []])):
            since = None
            for expected in pages:
                fields = {} if since is None else {"since": since}
                page = await client.call("history", channel="stream", limit=2, reverse=reverse, **fields)
                publications = page.get("publications", [])
                assert [publication["data"] for publication in publications] == expected
                if publications:
                    since = {"offset": publications[-1]["offset"], "epoch": page["epoch"]}
        assert (
            await client.error("history", channel="stream", limit=1, since={"offset": 1, "epoch": "x"}) == 112
        )


async def test_a_page_of_the_history_is_so_large() -> None:
    """In number and in bytes; the next one goes on."""
    app = application(limits=ws.ChannelLimits(max_history=3, max_recovered_bytes=10_000))
    async with served(app) as server:
        client = await connected(server)
        await client.call("subscribe", channel="stream")
        for size in (1, 1, 1, 1, 6000, 6000, 20_000):
            await app.publish("stream", size * "x")
        sizes: list[list[int]] = []
        since = {"offset": 0, "epoch": ""}
        while not sizes or sizes[-1]:
            page = await client.call("history", channel="stream", limit=-1, since=since)
            publications = page.get("publications", [])
            sizes.append([len(publication["data"]) for publication in publications])
            if publications:
                since = {"offset": publications[-1]["offset"], "epoch": page["epoch"]}
        assert sizes == [[1, 1, 1], [1, 6000], [6000], [20_000], []]


async def test_what_returning_clients_get_is_kept_within_a_bound() -> None:
    """Publications are kept as texts for them: so many bytes of all channels, however large each is."""
    app = application(size=1)
    async with served(app) as server:
        client = await connected(server)
        await client.call("subscribe", channel="stream")
        await client.call("subscribe", channel="cache")
        tracemalloc.start()
        try:
            for number in range(60):
                await app.publish(("stream", "cache")[number % 2], 200_000 * "x")
                assert (await client.push("pub"))["offset"] == number // 2 + 1
            made_by_us = tracemalloc.Filter(True, "*/trio_ws_app/channels/*")
            held = tracemalloc.take_snapshot().filter_traces([made_by_us]).statistics("filename")
        finally:
            tracemalloc.stop()
    assert sum(statistic.size for statistic in held) < 6_000_000


async def test_what_is_lost_at_the_broker_brings_the_client_back() -> None:
    """It is told 2500, comes back, and is told that it cannot have it all."""
    broker = MemoryBroker()
    app = channels_on(broker)
    async with served(app) as server:
        reader = Reader(await connected(server), keeps_first_epoch=False)
        await reader.subscribe()
        await app.publish("stream", 0)
        await reader.read(1)
        async with broker.open_feed("channel:stream") as feed:
            feed.deliver([ws.Gap("away")])
        expected = {"channel": "stream", "code": 2500, "reason": "insufficient state"}
        assert await reader.client.push("unsubscribe") == expected
        assert (await reader.recover(reader.client))["recovered"] is True


async def test_what_is_no_publication_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """What another program has put there does not reach the clients."""
    broker = MemoryBroker()
    app = channels_on(broker)
    async with served(app) as server:
        reader = Reader(await connected(server), keeps_first_epoch=False)
        await reader.subscribe()
        for text in (
            "no json",
            "5",
            "{}",
            '{"data":1,"push":2}',
            '{"data":1,"info":5}',
            '{"data":1,"tags":{"a":1}}',
        ):
            await broker.publish("channel:stream", text, history=ws.History(100, 300))
        await broker.publish("channel:stream", b'{\n"data":\n1}\n', history=ws.History(100, 300))
        await reader.read(1)
        assert (reader.seen, reader.offset) == ([1], 7)
        assert (await Reader(await connected(server), keeps_first_epoch=False).subscribe())["offset"] == 7
    assert sum("no publication" in record.message for record in caplog.records) == 6
