"""Handlers that know their user: from the handshake or the first message, until the token ends."""

from __future__ import annotations

import time

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app import auth
from trio_ws_app.testing import Peer, serve_in_memory

SECRET = "a long random text, or so"
VERIFIER = auth.Verifier(auth.secret(SECRET))

pytestmark = pytest.mark.usefixtures("autojump_clock")


def token(user: str = "ann", seconds: float = 60) -> str:
    return auth.sign(SECRET, {"sub": user, "exp": time.time() + seconds})


@auth.with_session(VERIFIER)
async def handler(connection: ws.Connection, session: auth.Session) -> None:
    """Names the user, then takes each message for a later token."""
    await connection.send(session.user.id)
    async for message in connection:
        try:
            session.refresh(message)
        except auth.TokenRefused as refusal:
            await connection.send(str(refusal))


async def closed(peer: Peer) -> tuple[int, str]:
    with pytest.raises(ws.ConnectionClosed) as caught:
        await peer.receive()
    return caught.value.reason.code, caught.value.reason.reason


async def test_the_first_message_may_be_the_token() -> None:
    """The handler begins once it is there."""
    async with serve_in_memory(handler) as server:
        peer = await server.connect()
        await peer.send(token())
        assert await peer.receive() == "ann"


async def test_a_token_at_the_handshake_needs_no_message() -> None:
    """The user is the one that ``bearer`` has found."""
    async with serve_in_memory(handler, process_request=auth.bearer(VERIFIER, auth.query())) as server:
        peer = await server.connect(f"/?access_token={token('bob')}")
        assert await peer.receive() == "bob"


@pytest.mark.parametrize("text", ["", "nonsense", b"\xff", token(seconds=-1), "x" * 10_000])
async def test_a_wrong_first_message_ends_the_connection(text: ws.Message) -> None:
    """With 4401, which no client takes for a reason to come back."""
    async with serve_in_memory(handler) as server:
        peer = await server.connect()
        await peer.send(text)
        assert (await closed(peer))[0] == 4401


async def test_a_client_that_says_nothing_is_turned_away() -> None:
    """With 4408, after ten seconds."""
    async with serve_in_memory(handler) as server:
        peer = await server.connect()
        before = trio.current_time()
        assert await closed(peer) == (4408, "no token came")
        assert trio.current_time() - before == pytest.approx(10)


async def test_a_wrong_token_that_a_handler_lets_out_is_no_failure() -> None:
    """The connection closes with 4401, as it does for a wrong first message."""

    @auth.with_session(VERIFIER)
    async def refreshing(connection: ws.Connection, session: auth.Session) -> None:
        session.refresh(await connection.receive())

    async with serve_in_memory(refreshing) as server:
        peer = await server.connect()
        await peer.send(token())
        await peer.send("nonsense")
        assert (await closed(peer))[0] == 4401
        assert server.server.statistics().failed == 0


async def test_a_session_ends_with_its_token_unless_a_later_one_comes() -> None:
    """A refresh prolongs it; another user's or a wrong token does not."""
    async with serve_in_memory(handler) as server:
        peer = await server.connect()
        before = trio.current_time()
        for text in (token(), token("bob", 9000), "nonsense", token(seconds=600)):
            await peer.send(text)
        assert await peer.receive() == "ann"
        assert await peer.receive() == "the token is another user's"
        assert "refused" in str(await peer.receive())
        assert await closed(peer) == (4401, "the token is out of date")
        assert trio.current_time() - before == pytest.approx(600, abs=5)
