"""``serve --asgi``: an application of FastAPI, Starlette or Quart-Trio as it is, in processes of ours."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from running import run, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

FASTAPI = """
import os
import sys
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
from fastapi import Depends, FastAPI, Request, WebSocket, WebSocketDisconnect, WebSocketException

closed = []


@asynccontextmanager
async def lifespan(app):
    print("started", file=sys.stderr, flush=True)
    yield {"greeting": "hi"}
    print("stopped", file=sys.stderr, flush=True)


app = FastAPI(lifespan=lifespan)


async def user(websocket: WebSocket, token: str | None = None) -> str:
    if token is None:
        raise WebSocketException(code=1008, reason="no token")
    return token


@app.websocket("/ws")
async def endpoint(websocket: WebSocket, name: Annotated[str, Depends(user)]):
    await websocket.accept(subprotocol="v1")

    async def produce():
        await websocket.send_json({"for": name, "says": websocket.state.greeting})
        await anyio.sleep_forever()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(produce)
            while True:
                await websocket.send_text((await websocket.receive_text()).upper())
    except* WebSocketDisconnect as group:
        closed.append([group.exceptions[0].code, group.exceptions[0].reason])


@app.get("/closed")
async def get_closed(request: Request):
    greeting = request.state.greeting
    return {"closed": closed, "pid": os.getpid(), "client": request.client.host, "greeting": greeting}


@app.post("/size")
async def size(request: Request):
    return len(await request.body())


@app.get("/slow")
async def slow():
    print("slow begins", file=sys.stderr, flush=True)
    await anyio.sleep(1)
    return "slow"


async def broken(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no such table"})


def create():
    return app
"""

QUART = """
from quart import request, websocket
from quart_trio import QuartTrio

app = QuartTrio(__name__)


@app.route("/<name>", methods=["POST"])
async def post(name):
    return f"{name} {len(await request.get_data())}"


@app.websocket("/ws")
async def talk():
    while True:
        await websocket.send(await websocket.receive())
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "fast.py").write_text(FASTAPI)
    (tmp_path / "quarts.py").write_text(QUART)
    return tmp_path


def answer(port: int, path: str, body: bytes | None = None) -> str:
    with urlopen(Request(f"http://127.0.0.1:{port}{path}", data=body), timeout=20) as response:
        return str(response.read().decode())


def test_a_fastapi_application_is_served_whole(directory: Path) -> None:
    """Dependencies, a producer beside the consumer, ``WebSocketDisconnect``, HTTP and lifespan."""
    with serving("--asgi", "fast:app", cwd=directory) as server:
        with connect(f"{server.url}/ws?token=ann", subprotocols=["v1"]) as client:  # type: ignore[list-item]
            assert client.subprotocol == "v1"
            assert json.loads(client.recv(10)) == {"for": "ann", "says": "hi"}
            client.send("hello")
            assert client.recv(10) == "HELLO"
            client.close(4000, "enough")
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"{server.url}/ws")
        said = json.loads(answer(server.port, "/closed"))
        assert (said["closed"], said["client"], said["greeting"]) == ([[4000, "enough"]], "127.0.0.1", "hi")
        assert answer(server.port, "/size", bytes(300_000)) == "300000"
        assert answer(server.port, "/healthz") == "ok\n"
        finished = server.stop()
    assert finished.status == 0
    assert "started" in finished.errors
    assert "stopped" in finished.errors
    assert "ERROR" not in finished.errors


def test_a_quart_trio_application_is_served_whole(directory: Path) -> None:
    """Its routes of both kinds."""
    with serving("--asgi", "quarts:app", cwd=directory, warnings="default") as server:
        with connect(f"{server.url}/ws") as client:
            client.send(b"bytes")
            assert client.recv(10) == b"bytes"
        assert answer(server.port, "/name", bytes(300_000)) == "name 300000"
        finished = server.stop()
    assert finished.status == 0
    assert "ERROR trio_ws_app" not in finished.errors  # Quart 0.23 logs a client's goodbye as one of its own
    assert "aborted" not in finished.errors


def test_a_signal_lets_requests_end(directory: Path) -> None:
    """They get their answer; WebSockets get 1001."""
    answers: list[str] = []
    with (
        serving("--asgi", "fast:app", cwd=directory) as server,
        connect(f"{server.url}/ws?token=ann", subprotocols=["v1"]) as client,  # type: ignore[list-item]
    ):
        client.recv(10)
        slow = threading.Thread(target=lambda: answers.append(answer(server.port, "/slow")))
        slow.start()
        server.await_error("slow begins")
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(10)
        slow.join(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert server.wait().status == 0
    assert answers == ['"slow"']


def test_workers_serve_an_application(directory: Path) -> None:
    """Each runs its lifespan."""
    options = ("--asgi", "fast:app", "--workers", "2", "--broker", "none")
    with serving(*options, cwd=directory) as server:
        processes = {json.loads(answer(server.port, "/closed"))["pid"] for _ in range(20)}
        finished = server.stop()
    assert os.getpid() not in processes
    assert (finished.status, finished.errors.count("started"), finished.errors.count("stopped")) == (0, 2, 2)


def test_an_application_that_cannot_start_says_why(directory: Path) -> None:
    """In one line, with exit status 1; it never listens."""
    finished = run("serve", "--asgi", "fast:broken", "--port", "0", cwd=directory)
    assert (finished.status, finished.output) == (1, "")
    assert "fast:broken failed" in finished.errors
    assert "no such table" in finished.errors


MISTAKES = {
    ("--asgi",): "--asgi needs a TARGET of your own",
    ("--asgi", "chat"): "--asgi needs a TARGET of your own",
    ("--asgi", "fast"): "did you mean fast:app?",
    ("--asgi", "fast:closed"): "fast:closed is a list, not an ASGI application",
    ("--asgi", "fast:user"): "fast:user is not an ASGI application",
    ("fast:app",): "fast:app takes scope, receive and send: serve an ASGI application with --asgi",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=" ".join)
def test_a_mistake_in_the_call_is_said_in_one_line(arguments: tuple[str, ...], directory: Path) -> None:
    """With what would be right."""
    finished = run("serve", *arguments, "--port", "0", cwd=directory)
    assert finished.status == 2
    assert MISTAKES[arguments] in finished.errors
    assert finished.errors.count("\n") == 1
