"""The built-in applications, in memory and on virtual time."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.apps.chat import chat, free_name
from trio_ws_app.apps.counter import counter
from trio_ws_app.apps.echo import echo
from trio_ws_app.apps.ticker import ticker
from trio_ws_app.testing import MemoryServer, Peer, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")


@asynccontextmanager
async def served(application: object) -> AsyncIterator[MemoryServer]:
    """The application behind a server in memory."""
    with trio.fail_after(10):
        async with application() as handler, serve_in_memory(handler) as server:  # type: ignore[operator]
            yield server


async def told(peer: Peer) -> list[object]:
    """What the peer has been sent by now."""
    await trio.testing.wait_all_tasks_blocked()
    messages: list[object] = []
    with trio.move_on_after(0.01):
        while True:
            messages.append(await peer.receive())
    return messages


async def join(server: MemoryServer, name: str) -> Peer:
    """A client that has joined the chat and read the greeting."""
    peer = await server.connect()
    assert await peer.receive() == "* your name?"
    await peer.send(name)
    return peer


async def test_echo_sends_text_as_text_and_bytes_as_bytes() -> None:
    """What comes back is what was sent, kind included."""
    async with serve_in_memory(echo) as server:
        peer = await server.connect()
        for message in ("grüße", b"\x00\xff", "", b""):
            await peer.send(message)
            assert await peer.receive() == message


async def test_chat_tells_all_others() -> None:
    """Names, notices, messages to the others but not to the sender, and who is here."""
    async with served(chat) as server:
        ada = await join(server, "Ada")
        assert await told(ada) == ["* you are Ada", "* here: Ada"]
        grace = await join(server, "Grace Hopper")
        assert await told(grace) == ["* you are Grace-Hopper", "* here: Ada, Grace-Hopper"]
        assert await told(ada) == ["* Grace-Hopper joined"]
        await grace.send("good morning")
        assert await told(ada) == ["Grace-Hopper: good morning"]
        assert await told(grace) == []
        await ada.send("/who")
        assert await told(ada) == ["* here: Ada, Grace-Hopper"]
        await grace.aclose()
        assert await told(ada) == ["* Grace-Hopper left"]


async def test_chat_notices_a_client_that_vanishes_without_a_close() -> None:
    """A name that is gone is announced and free again."""
    async with served(chat) as server:
        ada, bob = await join(server, "Ada"), await join(server, "Bob")
        await told(ada)
        bob.stream.abort()
        assert await told(ada) == ["* Bob left"]
        again = await join(server, "Bob")
        assert (await told(again))[0] == "* you are Bob"


async def test_chat_leaves_out_clients_without_a_name() -> None:
    """A client that leaves before joining is announced neither coming nor going."""
    async with served(chat) as server:
        ada = await join(server, "Ada")
        await told(ada)
        shy = await server.connect()
        await shy.aclose()
        assert await told(ada) == []


async def test_chat_keeps_no_long_lines() -> None:
    """Some hundred lines are kept for a day, and sent to all who come: their author is told to say less."""
    async with served(chat) as server:
        ada, bob = await join(server, "Ada"), await join(server, "Bob")
        await told(ada), await told(bob)
        for line in ("x" * 4001, b"x" * 4001):
            await bob.send(line)
            assert await told(bob) == ["* at most 4000 characters at once, please"]
        await bob.send("ä" * 4000)
        assert await told(ada) == [f"Bob: {'ä' * 4000}"]


@asynccontextmanager
async def two_servers() -> AsyncIterator[tuple[MemoryServer, MemoryServer]]:
    """The chat in two servers that share a broker."""
    async with (
        ws.open_memory_broker() as broker,
        chat(broker) as first,
        chat(broker) as second,
        serve_in_memory(first) as one,
        serve_in_memory(second) as other,
    ):
        yield one, other


async def test_chat_is_one_room_for_all_servers() -> None:
    """Names, notices and lines of two servers: one list of names, and no two are equal."""
    async with two_servers() as (one, other):
        ada, also_ada = await join(one, "Ada"), await join(other, "Ada")
        assert await told(also_ada) == ["* you are Ada2", "* here: Ada, Ada2"]
        assert await told(ada) == ["* you are Ada", "* here: Ada", "* Ada2 joined"]
        await also_ada.send("hello")
        assert await told(ada) == ["Ada2: hello"]
        await ada.aclose()
        assert await told(also_ada) == ["* Ada left"]


async def test_chat_begins_with_the_last_lines() -> None:
    """A newcomer reads the last 50 lines first, without notices."""
    async with two_servers() as (one, other):
        ada = await join(one, "Ada")
        for number in range(60):
            await ada.send(f"line {number}")
        await told(ada)
        bob = await join(other, "Bob")
        assert await told(bob) == [
            *(f"Ada: line {number}" for number in range(10, 60)),
            "* you are Bob",
            "* here: Ada, Bob",
        ]


async def come_back(server: MemoryServer, name: str, query: str) -> Peer:
    peer = await server.connect(query)
    assert await peer.receive() == "* your name?"
    await peer.send(name)
    return peer


async def test_chat_brings_a_program_what_it_missed() -> None:
    """With its secret and a position it comes back under its name, on another server, unnoticed."""
    async with two_servers() as (one, other):
        ada, bob = await join(one, "Ada"), await come_back(other, "Bob", "/?id=secret")
        await ada.send("first")
        (line,) = [str(message) for message in await told(bob) if str(message).startswith("@")]
        position, _, text = line.removeprefix("@").partition(" ")
        assert text == "Ada: first"
        await told(ada)
        bob.stream.abort()
        await ada.send("second")
        await ada.send("third")
        bob = await come_back(one, "Bob", f"/?id=secret&since={position}")
        missed = [str(message) for message in await told(bob)]
        assert [message.partition(" ")[2] for message in missed[:2]] == ["Ada: second", "Ada: third"]
        assert missed[2:] == ["* you are Bob", "* here: Ada, Bob"]
        await bob.send("thanks")
        assert await told(ada) == ["Bob: thanks"]
        assert [str(message).partition(" ")[2] for message in await told(bob)] == ["Bob: thanks"]
        await bob.aclose()
        await trio.sleep(6)
        assert await told(ada) == ["* Bob left"]


async def test_chat_keeps_a_name_from_those_without_its_secret() -> None:
    """While its program is away for a moment the name is not given to another."""
    async with two_servers() as (one, other):
        bob = await come_back(one, "Bob", "/?id=secret")
        assert "* you are Bob" in await told(bob)
        bob.stream.abort()
        for query in ("/", "/?id=other"):
            peer = await come_back(other, "Bob", query)
            assert "* you are Bob2" in await told(peer)
            await peer.aclose()
            await trio.sleep(0.1)


async def test_chat_says_where_lines_are_missing() -> None:
    """A position that is not kept any more is told; one that is none is refused."""
    async with served(chat) as server:
        late = await come_back(server, "Ada", "/?id=secret&since=epoch-1-tag")
        assert (await told(late))[0] == "* messages may be missing here"
        for nonsense in ("nonsense", "", "x" * 3000, "%C3%A9" * 100):
            wrong = await server.connect(f"/?id=secret&since={nonsense}")
            await wrong.wait_ended()
            assert wrong.close_reason is not None
            assert wrong.close_reason.code == 1008


@pytest.mark.parametrize(
    ("wanted", "taken", "name"),
    [
        ("Ada", set(), "Ada"),
        ("Ada", {"Ada", "Ada2"}, "Ada3"),
        ("  Grace   Hopper ", set(), "Grace-Hopper"),
        ("* eve: left", set(), "eve-left"),
        ("a\nb\x1b[31m", set(), "a-b-31m"),
        (b"\xff\xfe", set(), "guest"),
        ("", {"guest"}, "guest2"),
        ("x" * 100, set(), "x" * 30),
        ("Jürgen_7.b", set(), "Jürgen_7.b"),
    ],
)
async def test_a_name_can_be_told_from_the_text_after_it(
    wanted: str | bytes, taken: set[str], name: str
) -> None:
    """Names have neither blanks nor colons nor control characters, and are unique."""
    assert free_name(wanted, taken) == name


async def test_counter_tells_all_the_new_value() -> None:
    """All see each change and how many they are; what is no number changes nothing."""
    async with served(counter) as server:
        one = await server.connect()
        assert [json.loads(m) for m in await told(one)] == [{"value": 0, "people": 1}]
        two = await server.connect()
        await told(one), await told(two)
        for change in ("+1", "5", "-2"):
            await two.send(change)
        values = [json.loads(message)["value"] for message in await told(one)]
        assert values == [1, 6, 4]
        await told(two)
        for nonsense in ("", "one", "1e9", "9" * 5000, b"1"):
            await two.send(nonsense)
        assert [list(json.loads(message)) for message in await told(two)] == [["error"]] * 5
        assert await told(one) == []
        await two.aclose()
        assert json.loads((await told(one))[-1]) == {"value": 4, "people": 1}


async def test_counter_is_one_value_for_all_servers() -> None:
    """Changes at two servers at the same time all count, and a server that starts later knows the value."""
    async with ws.open_memory_broker() as broker, counter(broker) as first, counter(broker) as second:
        async with serve_in_memory(first) as one, serve_in_memory(second) as other:
            peers = [await server.connect() for server in (one, other) for _ in range(3)]
            await trio.testing.wait_all_tasks_blocked()
            for number, peer in enumerate(peers):
                for _ in range(5):
                    await peer.send(f"{number:+}")
            for peer in peers:
                assert json.loads((await told(peer))[-1]) == {"value": 75, "people": 6}
        async with counter(broker) as third, serve_in_memory(third) as later:
            peer = await later.connect()
            assert json.loads((await told(peer))[-1]) == {"value": 75, "people": 1}


async def test_counter_counts_only_what_it_has_published() -> None:
    """What other programs publish on its topic adds nothing, also for a server that starts later."""
    strange = ("junk", b"\xff", "7", "{}", '{"add": 1}', '{"add": 1, "value": 5, "at": "now"}', "[" * 20_000)
    strange += ('{"add": 1e999, "value": 5, "at": null}', '{"add": [], "value": 5, "at": null}')
    kept = ws.History(size=100, ttl=60)
    async with ws.open_memory_broker() as broker, counter(broker) as first, serve_in_memory(first) as server:
        one = await server.connect()
        for number in ("+1", "+2"):
            for message in strange:
                await broker.publish("counter", message, history=kept)
            await one.send(number)
            assert json.loads((await told(one))[-1])["value"] == int(number) * (int(number) + 1) // 2
        for message in strange:
            await broker.publish("counter", message, history=kept)
        async with counter(broker) as second, serve_in_memory(second) as later:
            two = await later.connect()
            assert json.loads((await told(two))[-1]) == {"value": 3, "people": 2}
            await one.send("+1")
            assert json.loads((await told(two))[-1])["value"] == 4


async def test_counter_goes_on_when_its_history_has_expired() -> None:
    """A server that knows the value adds to it, and one that starts later knows the sum."""
    async with ws.open_memory_broker() as broker, counter(broker) as first, serve_in_memory(first) as server:
        peer = await server.connect()
        await peer.send("+3")
        assert json.loads((await told(peer))[-1])["value"] == 3
        await broker.publish("counter", "not ours", history=ws.History(size=100, ttl=1))
        await trio.sleep(2)
        await peer.send("+1")
        assert json.loads((await told(peer))[-1])["value"] == 4
        async with counter(broker) as second, serve_in_memory(second) as later:
            other = await later.connect()
            assert json.loads((await told(other))[-1])["value"] == 4


async def test_ticker_sends_twice_a_second_until_the_peer_is_gone() -> None:
    """The producer runs on the clock, and its connection ends with the peer."""
    with trio.fail_after(60):
        async with serve_in_memory(ticker) as server:
            peer = await server.connect()
            await peer.receive()
            start = trio.current_time()
            for _ in range(10):
                assert set(json.loads(await peer.receive())) == {"time", "value"}
            assert trio.current_time() - start == pytest.approx(5, abs=0.01)
            await peer.aclose()
            await trio.testing.wait_all_tasks_blocked()
            assert not server.server.connections


async def test_ticker_begins_with_what_was_missed() -> None:
    """Everything since the time that the client names comes at once, at most the last two minutes."""
    with trio.fail_after(60):
        async with serve_in_memory(ticker) as server:
            for ago, count in ((10, 20), (1000, 240), (0, 0), (-5, 0)):
                now = time.time()
                peer = await server.connect(f"/?since={now - ago}")
                start = trio.current_time()
                times = [json.loads(await peer.receive())["time"] for _ in range(count + 1)]
                assert trio.current_time() == start
                assert times == sorted(times)
                assert times[0] == pytest.approx(now - count * 0.5, abs=1)
                await peer.receive()
                assert trio.current_time() - start == pytest.approx(0.5)
                await peer.aclose()


@pytest.mark.parametrize(("since", "code"), [("x", 1008), ("", 1008), ("nan", None), ("inf", None)])
async def test_ticker_refuses_what_is_no_time(since: str, code: int | None) -> None:
    """Words close with 1008; what is not a number of this world is as if nothing was missed."""
    with trio.fail_after(60):
        async with serve_in_memory(ticker) as server:
            peer = await server.connect(f"/?since={since}")
            if code is None:
                start = trio.current_time()
                await peer.receive(), await peer.receive()
                assert trio.current_time() - start == pytest.approx(0.5)
            else:
                await peer.wait_ended()
                assert peer.close_reason is not None
                assert peer.close_reason.code == code


async def test_chat_gives_no_position_to_what_is_not_kept() -> None:
    """A line that a program publishes without a history has no position to come back with."""
    async with ws.open_memory_broker() as broker, chat(broker) as handler, serve_in_memory(handler) as server:
        bob = await come_back(server, "Bob", "/?id=secret")
        await told(bob)
        await broker.publish("chat", "closed at five")
        assert await told(bob) == ["closed at five"]
