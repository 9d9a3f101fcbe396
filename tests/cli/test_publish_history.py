"""``trio-ws-app publish --history``: what is published is kept for later subscribers."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trio
from redis_servers import RedisServer
from running import PATIENCE, run

from trio_ws_app.broker import Delivery, open_redis_broker


async def kept(url: str, topic: str) -> list[str | bytes]:
    async with open_redis_broker(url) as broker:
        return [item.message for item in await broker.history(topic) if isinstance(item, Delivery)]


def test_what_is_published_is_kept_on_request(own_redis: RedisServer) -> None:
    """The newest messages, for the time that was asked for; without the option nothing is."""
    for number in range(3):
        ended = run("publish", "t", f"{number}", "--history", "2", "--ttl", "600", "--broker", own_redis.url)
        assert ended.status == 0
    assert run("publish", "t", "plain", "--broker", own_redis.url).status == 0
    assert trio.run(kept, own_redis.url, "t") == ["1", "2"]
    assert 500_000 < int(own_redis.cli("PTTL", "ws:history:{t}")) <= 600_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--history", "0"), "--history: a history keeps 1 to 100000 messages, not 0"),
        (("--history", "x"), "'x' is not a valid integer"),
        (("--ttl", "60"), "--ttl is for what --history keeps"),
        (("--history", "5", "--ttl", "0"), "--history: a history is kept for 0.001 to 1e9 seconds, not 0"),
    ],
)
def test_what_cannot_be_kept_is_refused(options: tuple[str, ...], words: str) -> None:
    """A bad number is told in one line, before anything is published."""
    ended = run("publish", "t", "x", "--broker", "redis://127.0.0.1:1", *options)
    assert (ended.status, len(ended.errors.splitlines())) == (2, 1)
    assert words in ended.errors


def test_a_bad_variable_is_named() -> None:
    """Who never typed ``--broker`` would not find it."""
    ended = run("publish", "t", "x", TRIO_WS_APP_BROKER="nonsense")
    assert ended.status == 2
    assert ended.errors.startswith("trio-ws-app: TRIO_WS_APP_BROKER: 'nonsense' is no Redis URL")


@pytest.mark.parametrize(
    "arguments",
    [
        ("publish", "\udcff", "x", "--broker", "redis://127.0.0.1:1"),
        ("publish", "t", "\udcff", "--broker", "redis://127.0.0.1:1"),
        ("token", "\udcff"),
        ("token", "ann", "--may", "\udcff"),
    ],
)
def test_an_argument_that_is_no_text_is_refused(arguments: tuple[str, ...]) -> None:
    """Bytes that are not UTF-8 are told in one line, before anything is done."""
    ended = run(*arguments, TRIO_WS_APP_SECRET="x" * 40)
    assert (ended.status, len(ended.errors.splitlines())) == (2, 1)
    assert "it is not UTF-8" in ended.errors


def test_a_line_that_is_no_text_is_refused(own_redis: RedisServer) -> None:
    """It is told with its number; those before it are published, without their ends."""
    command = [sys.executable, "-m", "trio_ws_app", "publish", "t", "-", "--history", "9"]
    lines = b"one\r\n\ntwo\n\xff\nthree\n"
    ended = subprocess.run(
        [*command, "--broker", own_redis.url], input=lines, capture_output=True, timeout=PATIENCE
    )
    assert (ended.returncode, ended.stderr) == (2, b"trio-ws-app: line 4 of the input is not UTF-8\n")
    assert trio.run(kept, own_redis.url, "t") == ["one", "", "two"]
