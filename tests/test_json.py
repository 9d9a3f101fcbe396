"""JSON messages: what is read and written, what becomes of bad ones, and the libraries that convert them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import cattrs
import msgspec
import orjson
import pydantic
import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.testing import connected_pair, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")

BAD: list[ws.Message] = [
    "",
    "{",
    "nul",
    b"\xff",
    "\ufeff1",
    "NaN",
    "[1e999]",
    "-Infinity",
    "[" * 100_000,
    "9" * 5000,
    "1 2",
]

CODECS = {
    "json": ws.JsonCodec(),
    "orjson": ws.JsonCodec(orjson.dumps, orjson.loads),
    "msgspec": ws.JsonCodec(msgspec.json.encode, msgspec.json.decode),
}


@attrs.frozen
class Move:
    piece: str
    square: int


class MoveStruct(msgspec.Struct):
    piece: str
    square: int


class MoveModel(pydantic.BaseModel):
    piece: str
    square: int


CONVERTERS: dict[str, Callable[[object], Any]] = {
    "msgspec": partial(msgspec.convert, type=MoveStruct),
    "pydantic": MoveModel.model_validate,
    "cattrs": lambda value: cattrs.structure(value, Move),
}


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
async def test_values_go_both_ways(codec: ws.JsonCodec) -> None:
    """As text messages; binary ones are read as well."""
    value = {"text": "h\u00fcbsch \U0001f600", "list": [1, 2.5, None, True]}

    async def handler(connection: ws.Connection) -> None:
        while True:
            await connection.send_json(await connection.receive_json())

    async with serve_in_memory(ws.App(handler, json=codec)) as server:
        client = await server.connect()
        for message in (json.dumps(value), json.dumps(value).encode()):
            await client.send(message)
            answer = await client.receive()
            assert isinstance(answer, str)
            assert json.loads(answer) == value


async def test_one_codec_serves_connections_and_broadcasts() -> None:
    """What only that library can encode arrives from both."""
    codec = CODECS["msgspec"]

    async def handler(connection: ws.Connection) -> None:
        async with ws.open_registry() as room:
            with room.register(connection):
                await connection.send_json(MoveStruct("king", 1))
                room.broadcast(codec.encode(MoveStruct("king", 1)))

    async with serve_in_memory(ws.App(handler, json=codec)) as server:
        client = await server.connect()
        assert [await client.receive() for _ in range(2)] == ['{"piece":"king","square":1}'] * 2


async def test_the_setting_reaches_outgoing_connections() -> None:
    """``connect`` has no App, but settings."""

    async def handler(connection: ws.Connection) -> None:
        await connection.send(str(await connection.receive()))

    settings = ws.Settings(json=ws.JsonCodec(lambda value: f"<{value}>", str.upper))  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        server = await nursery.start(ws.serve, handler, 0)
        async with ws.connect(f"ws://127.0.0.1:{server.port}", settings=settings) as connection:
            await connection.send_json("a")
            assert await connection.receive_json() == "<A>"
        await server.drain()


@pytest.mark.parametrize("message", BAD, ids=lambda message: repr(message[:8]))
async def test_a_bad_message_closes_with_1007_and_is_one_line(
    message: ws.Message, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it is received alone or in the loop; the handler needs no word about it."""

    async def alone(connection: ws.Connection) -> None:
        await connection.receive_json()

    async def loop(connection: ws.Connection) -> None:
        async for _ in ws.json_messages(connection):
            raise AssertionError("a value came")

    for handler in (alone, loop):
        async with serve_in_memory(handler) as server:
            client = await server.connect()
            await client.send(message)
            await client.wait_ended()
            assert client.close_reason is not None
            assert client.close_reason.code == ws.CloseCode.INVALID_PAYLOAD
    records = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.levelno for record in records] == [logging.WARNING]
    assert records[0].exc_info is None
    assert "\n" not in records[0].getMessage()
    assert len(records[0].getMessage()) < 300


async def test_what_can_be_read_can_be_sent_on() -> None:
    """Half a surrogate pair too, which JSON can spell and UTF-8 can't."""
    async with connected_pair() as (connection, client):
        await client.send('["\\ud800", 0.1, -0.0, 12345678901234567890]')
        await connection.send_json(await connection.receive_json())
        assert await client.receive() == '["\\ud800",0.1,-0.0,12345678901234567890]'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}])
async def test_what_no_browser_can_read_is_not_sent(value: object) -> None:
    """The mistake is the caller's, and nothing is on its way."""
    async with connected_pair() as (connection, client):
        with pytest.raises((TypeError, ValueError)):
            await connection.send_json(value)
        await connection.send("next")
        assert await client.receive() == "next"


async def test_bad_messages_are_ignored_or_answered() -> None:
    """By policy; the good ones around them arrive."""
    ignored, answered = list[object](), list[object]()

    async def handler(connection: ws.Connection) -> None:
        if connection.request.path == "/ignore":
            ignored.extend([value async for value in ws.json_messages(connection, on_error="ignore")])
            return
        loop = ws.json_messages(connection, on_error=lambda error: f"sorry, {error}"[:28])
        answered.extend([value async for value in loop])

    async with serve_in_memory(handler) as server:
        for path in ("/ignore", "/answer"):
            client = await server.connect(path)
            for message in ("1", "bad", "2"):
                await client.send(message)
            if path == "/answer":
                assert await client.receive() == "sorry, the message is no JSO"
            await client.aclose()
    assert ignored == answered == [1, 2]


async def test_an_answer_to_a_client_that_has_gone_ends_the_loop() -> None:
    """As everything does that is sent to it."""

    async def handler(connection: ws.Connection) -> None:
        await connection.wait_closed()
        async for _ in ws.json_messages(connection, on_error=str):
            raise AssertionError("a value came")
        ended.set()

    ended = trio.Event()
    async with serve_in_memory(handler) as server:
        client = await server.connect()
        await client.send("bad")
        await client.aclose()
        with trio.fail_after(5):
            await ended.wait()


@pytest.mark.parametrize("convert", CONVERTERS.values(), ids=CONVERTERS)
async def test_each_librarys_converter_makes_typed_values(convert: Callable[[object], Any]) -> None:
    """And what has another form is a bad message, whatever error that library raises."""
    async with connected_pair() as (connection, client):
        for message in ('{"piece": "king", "square": 4}', '{"piece": "king"}', "[]", '{"square": {}}'):
            await client.send(message)
        move = await connection.receive_json(convert)
        assert (move.piece, move.square) == ("king", 4)
        for _ in range(3):
            with pytest.raises(ws.InvalidMessage, match="right form") as caught:
                await connection.receive_json(convert)
            assert len(str(caught.value)) <= 200
        await client.send('{"piece": "rook", "square": 5}')
        assert (await anext(ws.json_messages(connection, convert))).piece == "rook"


@pytest.mark.parametrize("wrong", ["1007", None, 1007])
async def test_an_unknown_policy_is_refused(wrong: Any) -> None:
    """Where the loop is made."""
    async with connected_pair() as (connection, _):
        with pytest.raises(ValueError, match="on_error is 'close', 'ignore' or a function"):
            ws.json_messages(connection, on_error=wrong)


async def test_an_async_policy_is_refused_with_what_is_right() -> None:
    """Its answer would be a coroutine."""

    async def answer(_error: ws.InvalidMessage) -> str:
        return "sorry"

    async with connected_pair() as (connection, client):
        await client.send("bad")
        with pytest.raises(TypeError, match="on_error is a plain function"):
            await anext(ws.json_messages(connection, on_error=answer))  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [orjson, orjson.dumps, "orjson"])
def test_a_library_is_no_codec(wrong: Any) -> None:
    """A mistake that is easily made is told at once, not with the first message."""
    with pytest.raises(TypeError, match="JsonCodec"):
        ws.Settings(json=wrong)
    with pytest.raises(TypeError, match="JsonCodec"):
        ws.App(_handler, json=wrong)


async def _handler(_connection: ws.Connection) -> None:
    """Never called."""
