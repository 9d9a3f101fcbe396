"""Four in a row, in memory and on virtual time."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import trio
from game import AWAY, Game, Move, application

import trio_ws_app as ws
from trio_ws_app.testing import MemoryServer, Peer, ServerFixture


async def come(server: MemoryServer, name: str, since: str = "") -> Peer:
    """A player who has come to the red table, or back to it."""
    return await server.connect(f"/table/red?id=secret-of-{name}&name={name}{since and f'&since={since}'}")


async def until(player: Peer, kind: str) -> list[dict[str, Any]]:
    """What the player is told, up to the next event of this kind."""
    events: list[dict[str, Any]] = []
    while not events or events[-1]["type"] != kind:
        events.append(json.loads(await player.receive()))
    return events


async def told(player: Peer, kind: str) -> dict[str, Any]:
    """The next event of this kind."""
    return (await until(player, kind))[-1]


async def send(player: Peer, kind: str, **more: object) -> None:
    await player.send(json.dumps({"type": kind, **more}))


async def begin(server: MemoryServer) -> tuple[Peer, Peer]:
    """Ann and Bob, who have sat down in this order."""
    ann, bob = await come(server, "ann"), await come(server, "bob")
    for player in (ann, bob):
        await send(player, "sit")
        await told(ann, "sit")
        await told(bob, "sit")
    return ann, bob


def played(columns: str) -> Game:
    """A game in which two players have dropped their discs into these columns by turns."""
    game = Game()
    for player in "ab":
        assert game.play(Move("sit", player, player))
    for number, column in enumerate(columns):
        assert game.play(Move("drop", "ab"[number % 2], "", int(column)))
    return game


@pytest.mark.parametrize("columns", ["0011223", "0101010", "01123223433", "65543443233"])
def test_four_in_a_row_end_the_game(columns: str) -> None:
    """Side by side, on top of each other and both ways across, and not before the last disc."""
    assert not played(columns[:-1]).over
    assert played(columns).over


def test_the_rules_forbid_the_rest() -> None:
    """No move out of turn, into a full column, from no seat, or after the end."""
    game = played("000000")
    assert not game.play(Move("drop", "b", "", 1))
    assert not game.play(Move("drop", "a", "", 0))
    assert not game.play(Move("drop", "c", "", 1))
    assert not game.play(Move("sit", "c", ""))
    over = played("0101010")
    assert not over.play(Move("drop", "b", "", 1))
    assert over.play(Move("new", "c", ""))
    assert over == Game()


async def test_all_at_the_table_see_each_move(ws_server: ServerFixture) -> None:
    """Players and those who come later; a move that is not allowed is answered, and not told."""
    server = await ws_server(application)
    ann, bob = await begin(server)
    await send(bob, "drop", column=3)
    assert (await told(bob, "sorry"))["why"] == "you cannot do that now"
    await send(ann, "drop", column=3)
    cleo = await come(server, "cleo")
    for player in (ann, bob, cleo):
        assert (await told(player, "drop"))["name"] == "ann"
    people = (await told(cleo, "here"))["people"]
    assert [person["info"]["name"] for person in people] == ["ann", "bob", "cleo"]
    assert (await told(ann, "join"))["person"]["info"]["name"] == "cleo"


async def test_a_player_comes_back_to_the_game(ws_server: ServerFixture) -> None:
    """What was played meanwhile comes, and nothing twice; the others have not noticed."""
    server = await ws_server(application)
    ann, bob = await begin(server)
    await send(ann, "drop", column=0)
    position = (await told(bob, "drop"))["at"]
    await send(bob, "drop", column=1)
    await told(ann, "drop")
    await told(ann, "drop")
    bob.stream.abort()
    await trio.sleep(AWAY / 2)
    await send(ann, "drop", column=2)
    bob = await come(server, "bob", position)
    returned = await until(bob, "here")
    assert [event["type"] for event in returned] == ["you", "drop", "drop", "here"]
    assert [event["column"] for event in returned[1:3]] == [1, 2]
    await send(bob, "drop", column=3)
    seen = [*await until(ann, "drop"), *await until(ann, "drop")]
    assert [event["type"] for event in seen] == ["drop", "drop"]


async def test_an_older_place_is_left(ws_server: ServerFixture) -> None:
    """A player who comes a second time plays there, and not in both places."""
    server = await ws_server(application)
    ann, _bob = await begin(server)
    again = await come(server, "ann")
    await ann.wait_ended()
    assert ann.close_reason == ws.CloseReason(4000, "you have come back in another place")
    await send(again, "drop", column=0)
    await told(again, "drop")


async def test_a_game_that_was_left_can_be_begun_anew(ws_server: ServerFixture) -> None:
    """By any visitor, but not while a player may still come back."""
    server = await ws_server(application)
    _ann, bob = await begin(server)
    cleo = await come(server, "cleo")
    bob.stream.abort()
    await trio.sleep(AWAY / 2)
    await send(cleo, "new")
    await told(cleo, "sorry")
    assert (await told(cleo, "leave"))["person"]["info"]["name"] == "bob"
    await send(cleo, "new")
    await told(cleo, "new")


async def test_players_may_be_in_different_workers(ws_server: ServerFixture) -> None:
    """Two servers with one broker have the same tables."""
    async with ws.open_memory_broker() as broker:
        one, other = [await ws_server(application, broker=broker) for _ in range(2)]
        ann, bob = await come(one, "ann"), await come(other, "bob")
        for player in (ann, bob):
            await send(player, "sit")
            assert (await told(ann, "sit"))["player"] == (await told(bob, "sit"))["player"]
        await send(ann, "drop", column=6)
        assert (await told(bob, "drop"))["column"] == 6


@pytest.mark.parametrize(
    "text", ["", "[]", '{"type": "drop", "column": 7}', '{"type": "drop"}', '{"type": "win"}']
)
async def test_what_is_no_move_is_answered(ws_server: ServerFixture, text: str) -> None:
    """And the player goes on playing."""
    ann, _bob = await begin(await ws_server(application))
    await ann.send(text)
    await told(ann, "sorry")
    await send(ann, "drop", column=0)
    await told(ann, "drop")


@pytest.mark.parametrize("query", ["", "?name=ann", "?id=1&name="])
async def test_only_players_come_in(ws_server: ServerFixture, query: str) -> None:
    """A request without an id and a name gets 400 before the upgrade."""
    server = await ws_server(application)
    with pytest.raises(ws.HandshakeRefused, match="400"):
        await server.connect(f"/table/red{query}")


async def test_a_position_that_is_none_is_refused(ws_server: ServerFixture) -> None:
    """With 1008, after which the page does not come back."""
    player = await come(await ws_server(application), "ann", since="yesterday")
    await player.wait_ended()
    assert player.close_reason is not None
    assert player.close_reason.code == ws.CloseCode.POLICY_VIOLATION


@pytest.mark.cancel_everywhere
async def test_a_player_may_go_at_any_moment(ws_server: ServerFixture) -> None:
    """Whatever Ann's handler was doing, Bob has been told the same moves as Cleo, who comes later."""
    server = await ws_server(application, victim="/table/red?id=secret-of-ann&name=ann")
    bob, ann = await come(server, "bob"), await come(server, "ann")
    with suppress(ws.ConnectionClosed):
        await send(ann, "sit")
        await send(bob, "sit")
        await told(ann, "sit")
        await told(ann, "sit")
        await send(ann, "drop", column=3)
        await told(ann, "drop")
        await ann.aclose()
    await ann.wait_ended()
    await bob.send("is that all?")
    seen = [event for event in await until(bob, "sorry") if "at" in event]
    cleo = await come(server, "cleo")
    assert [event for event in await until(cleo, "here") if "at" in event] == seen
