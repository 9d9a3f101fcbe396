"""Tokens at the opening handshake, over real sockets and with a real client."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app import auth

SECRET = "a long random text, or so"
VERIFIER = auth.Verifier(auth.secret(SECRET))
SOURCES = (auth.header(), auth.cookie("session"), auth.query(), auth.subprotocol())


def token(user: str = "ann", seconds: float = 60) -> str:
    return auth.sign(SECRET, {"sub": user, "exp": time.time() + seconds})


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


async def names_its_user(connection: ws.Connection) -> None:
    await connection.send(auth.user_of(connection).id)


@asynccontextmanager
async def serving(process_request: ws.ProcessRequest) -> AsyncIterator[str]:
    settings = ws.Settings(subprotocols=("chat",))
    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(ws.serve, names_its_user, 0, settings=settings, process_request=process_request)
        )
        yield f"ws://127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("place", ["header", "cookie", "query", "subprotocol", "encoded", "kubernetes"])
async def test_a_token_is_found_where_it_may_be(place: str) -> None:
    """In the header, a cookie, the query or a subprotocol; the handler knows the user."""
    path, headers, protocols = "/", {}, []
    if place == "header":
        headers = {"Authorization": f"bearer {token()}"}
    elif place == "cookie":
        headers = {"Cookie": f"a=b; session={token()}"}
    elif place == "query":
        path = f"/?a=b&access_token={token()}"
    else:
        middle = "authorization.k8s.io." if place == "kubernetes" else ""
        text = token() if place == "subprotocol" else encoded(token())
        protocols = [f"base64url.bearer.{middle}{text}", "chat"]
    async with (
        serving(auth.bearer(VERIFIER, *SOURCES)) as url,
        ws.connect(url + path, headers=headers, subprotocols=protocols) as connection,
    ):
        assert await connection.receive() == "ann"
        assert connection.subprotocol == ("chat" if protocols else None)


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, "Bearer"),
        ({"Authorization": "Basic YTpi"}, "Bearer"),
        ({"Authorization": "Bearer x"}, 'error="invalid_token"'),
        ({"Authorization": f"Bearer {token(seconds=-1)}"}, "the token is out of date"),
        ({"Cookie": f"other={token()}"}, "Bearer"),
    ],
)
async def test_a_request_without_a_good_token_gets_401(headers: dict[str, str], challenge: str) -> None:
    """The challenge says why."""
    async with serving(auth.bearer(VERIFIER, *SOURCES)) as url:
        with pytest.raises(ws.HandshakeRefused) as refused:
            async with ws.connect(url, headers=headers):
                pass
    assert refused.value.status == 401
    assert challenge in refused.value.headers["www-authenticate"]


@pytest.mark.parametrize("good", [True, False])
async def test_a_token_in_the_query_is_never_logged(caplog: pytest.LogCaptureFixture, good: bool) -> None:
    """Neither that of a connection nor that of a refused request."""
    text = token() if good else token(seconds=-1)
    with caplog.at_level(logging.DEBUG):
        async with serving(auth.bearer(VERIFIER, auth.query("jwt"))) as url:
            try:
                async with ws.connect(f"{url}/?jwt={text}") as connection:
                    await connection.receive()
            except ws.HandshakeRefused:
                assert not good
    records = [f"{vars(record)}" for record in caplog.records if record.name.startswith("trio_ws_app")]
    assert records
    assert not any(text in record for record in records)


def test_a_parameter_that_logs_would_show_is_refused() -> None:
    """Only names that sound like secrets are masked."""
    with pytest.raises(ValueError, match="logs would show"):
        auth.query("q")


def test_a_request_that_is_logged_shows_no_token() -> None:
    """Not that of the query, of the header, of a cookie or of a subprotocol."""
    secret = [("Authorization", "Bearer S3"), ("Cookie", "a=S3"), ("Sec-WebSocket-Protocol", "S3")]
    shown = repr(ws.Request("GET", "/room?jwt=S3", ws.Headers([*secret, ("A", "b")])))
    assert "/room" in shown
    assert "'b'" in shown
    assert "S3" not in shown


async def test_a_user_that_was_not_asked_for_is_not_known() -> None:
    """The error says what is missing."""
    with pytest.raises(LookupError, match="process_request"):
        auth.user_of(ws.Request("GET", "/"))
