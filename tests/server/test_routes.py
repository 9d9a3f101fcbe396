"""``Routes``: which handler a path has, what it finds there, and what is refused."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

import trio_ws_app as ws
from trio_ws_app.testing import connected_pair, serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")

ID = "12345678-1234-5678-1234-567812345678"


async def show(connection: ws.Connection) -> None:
    await connection.send(repr(dict(connection.request.path_params)))


async def lobby(connection: ws.Connection) -> None:
    await connection.send("lobby")


ROUTES = ws.Routes(
    {
        "/room/{name}": show,
        "/room/lobby": lobby,
        "/jobs/{id:int}": show,
        "/rates/{rate:float}": show,
        "/items/{item:uuid}.json": show,
        "/files/{path:path}": show,
        "/a.b/{x}-{y:int}": show,
    }
)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/room/ann?x=/room/lobby", {"name": "ann"}),
        ("/room/%C3%A4%20b", {"name": "\xe4 b"}),
        ("/room/a%0Ab", {"name": "a\nb"}),
        ("/jobs/007", {"id": 7}),
        ("/rates/2.5", {"rate": 2.5}),
        (f"/items/{ID}.json", {"item": UUID(ID)}),
        ("/files/", {"path": ""}),
        ("/files/a/b", {"path": "a/b"}),
        ("/a.b/c-d-7", {"x": "c-d", "y": 7}),
    ],
)
async def test_a_handler_finds_the_parameters_of_its_path(path: str, answer: dict[str, Any]) -> None:
    """Decoded and converted."""
    async with serve_in_memory(ROUTES) as server:
        client = await server.connect(path)
        assert await client.receive() == repr(answer)


async def test_a_path_without_parameters_comes_first() -> None:
    """Wherever it stands."""
    async with serve_in_memory(ROUTES) as server:
        client = await server.connect("/room/lobby")
        assert await client.receive() == "lobby"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/room",
        "/room/",
        "/room/a/b",
        "/room/a%2Fb",
        "/jobs/seven",
        "/jobs/-1",
        "/jobs/" + "9" * 5000,
        "/jobs/7%0A",
        "/jobs/\u0667",
        "/rates/1e5",
        "/items/1.json",
        f"/items/{ID}xjson",
        "/a-b/c-7",
    ],
)
async def test_an_unknown_path_is_404_before_the_upgrade(path: str) -> None:
    """Also a number of thousands of digits, which Python would not read."""
    async with serve_in_memory(ws.App(ROUTES)) as server:
        with pytest.raises(ws.HandshakeRefused) as caught:
            await server.connect(path.encode().decode("latin-1") if path.isascii() else "/jobs/%D9%A7")
        assert caught.value.status == 404


async def test_hooks_see_the_parameters_and_answer_first() -> None:
    """Who may enter which room is decided before the upgrade; a page may be at a path without a route."""

    async def check(request: ws.Request) -> ws.Response | None:
        if request.path == "/":
            return ws.Response(200, "a page")
        return None if request.path_params.get("name") == "mine" else ws.Response(403)

    async with serve_in_memory(ws.App(ROUTES, process_request=check)) as server:
        for path, status in (("/", 200), ("/room/theirs", 403)):
            with pytest.raises(ws.HandshakeRefused) as caught:
                await server.connect(path)
            assert caught.value.status == status
        client = await server.connect("/room/mine")
        assert await client.receive() == "{'name': 'mine'}"


async def test_routes_are_a_handler_for_any_connection() -> None:
    """Called by itself, an unknown path closes with 1008."""
    async with connected_pair(path="/nowhere") as (connection, client):
        await ROUTES(connection)
        await client.wait_ended()
        assert client.close_reason is not None
        assert client.close_reason.code == ws.CloseCode.POLICY_VIOLATION
    async with connected_pair(path="/jobs/3") as (connection, client):
        await ROUTES(connection)
        assert await client.receive() == "{'id': 3}"


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("room", "begins with a slash"),
        ("/{id:number}", "'number'"),
        ("/{id}/{id:int}", "twice"),
        ("/{id", "brace"),
        ("/id}", "brace"),
        ("/{}", "brace"),
        ("/{1st}", "brace"),
        ("/{a b}", "brace"),
    ],
)
def test_a_path_that_makes_no_sense_is_refused(path: str, problem: str) -> None:
    """With what would be right, when the routes are made."""
    with pytest.raises(ValueError, match=problem):
        ws.Routes({path: show})


def test_a_route_needs_a_handler() -> None:
    """What is not async can't serve a connection."""
    with pytest.raises(TypeError, match="async function"):
        ws.Routes({"/": print})  # type: ignore[dict-item]
