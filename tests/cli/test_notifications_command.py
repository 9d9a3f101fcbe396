"""The worked example in real processes: tokens from one command, events from another, two workers between."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest
from redis_servers import RedisServer
from running import run, serving
from websockets.sync.client import connect

from trio_ws_app.apps.notifications import Tokens

SECRET = {"TRIO_WS_APP_SECRET": "a long random text"}


@pytest.mark.slow
def test_events_from_a_script_reach_users_that_may_see_them(redis_server: RedisServer) -> None:
    """Each of eight clients over two workers gets exactly what its token allows."""
    options = ("--workers", "2", "--broker", redis_server.url)
    tokens = {
        kind: run("token", "ann", "--may", kind, **SECRET).output.strip() for kind in ("orders", "payroll")
    }
    with serving("notifications", *options, **SECRET) as server, ExitStack() as stack:
        clients = [(kind, stack.enter_context(connect(server.url))) for kind in tokens for _ in range(4)]
        for kind, client in clients:
            client.send(tokens[kind])
            assert json.loads(client.recv(timeout=10))["may"] == [kind]
        for topic in ("event:orders", "event:payroll", "event:other", "user:ann"):
            run("publish", topic, f"to {topic}", "--broker", redis_server.url)
        for kind, client in clients:
            assert [client.recv(timeout=10) for _ in range(2)] == [f"to event:{kind}", "to user:ann"]
        assert server.stop().status == 0


def test_the_secret_may_be_any_bytes() -> None:
    """A token is signed with them, as with a text's."""
    signed = run("token", "ann", TRIO_WS_APP_SECRET="\udcff" * 40)
    assert (signed.status, signed.errors) == (0, "")
    assert Tokens(b"\xff" * 40).verifier.user(signed.output.strip()).id == "ann"


def test_rooms_want_no_short_secret() -> None:
    """They say in one line what to set; none at all is fine, for guests."""
    ended = run("serve", "rooms", TRIO_WS_APP_SECRET="abc")
    assert (ended.status, len(ended.errors.splitlines())) == (2, 1)
    assert "TRIO_WS_APP_SECRET" in ended.errors


@pytest.mark.parametrize("settings", [{}, {"TRIO_WS_APP_SECRET": "abc"}], ids=["none", "short"])
@pytest.mark.parametrize("command", [["serve", "notifications", "--port", "0"], ["token", "ann"]])
def test_the_secret_is_needed(command: list[str], settings: dict[str, str]) -> None:
    """Server and token command say in one line what to set."""
    ended = run(*command, **settings)
    assert ended.status == 2
    assert len(ended.errors.splitlines()) == 1
    assert "TRIO_WS_APP_SECRET" in ended.errors
