"""Jobs with progress, in memory and on virtual time."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jobs
import pytest
import trio
from jobs import MOST_JOBS, application

import trio_ws_app as ws
from trio_ws_app.testing import HttpFixture, MemoryServer, Peer, ServerFixture


async def log_in(http: httpx.AsyncClient, name: str) -> str:
    """The cookie that a browser would have now."""
    http.cookies.clear()
    (await http.post("/login", json={"name": name})).raise_for_status()
    return f"session={http.cookies['session']}"


async def window(server: MemoryServer, cookie: str, since: str = "") -> Peer:
    """A window of the user's."""
    return await server.connect(f"/progress{since and f'?since={since}'}", headers=[("Cookie", cookie)])


async def until(client: Peer, state: str) -> list[dict[str, Any]]:
    """What a window is told, up to the news of a job in this state."""
    news: list[dict[str, Any]] = []
    while not news or news[-1]["state"] != state:
        news.append(json.loads(await client.receive()))
    return news


async def test_a_job_tells_how_it_gets_on(ws_server: ServerFixture, ws_http: HttpFixture) -> None:
    """All windows of its user, from its beginning to its end, and no other user's."""
    server = await ws_server(application)
    http = await ws_http(server)
    ann, bob = await log_in(http, "ann"), await log_in(http, "bob")
    windows = [await window(server, cookie) for cookie in (ann, ann, bob)]
    await log_in(http, "ann")
    job = (await http.post("/jobs", json={"title": "report"})).json()
    for one in windows[:2]:
        news = await until(one, "done")
        assert {item["job"] for item in news} == {job}
        assert [item["percent"] for item in news] == list(range(0, 101, 5))
    with trio.move_on_after(60) as nothing:
        await windows[2].receive()
    assert nothing.cancelled_caught


async def test_a_window_comes_back(ws_server: ServerFixture, ws_http: HttpFixture) -> None:
    """It gets what it has missed, and a new one all that is kept."""
    server = await ws_server(application)
    http = await ws_http(server)
    cookie = await log_in(http, "ann")
    one = await window(server, cookie)
    await http.post("/jobs", json={"title": "report"})
    seen = [json.loads(await one.receive()) for _ in range(3)]
    one.stream.abort()
    await trio.sleep(60)
    missed = await until(await window(server, cookie, seen[-1]["at"]), "done")
    assert await until(await window(server, cookie), "done") == seen + missed


async def test_a_job_is_stopped(ws_server: ServerFixture, ws_http: HttpFixture) -> None:
    """By its user, and by no other."""
    server = await ws_server(application)
    http = await ws_http(server)
    one = await window(server, await log_in(http, "ann"))
    job = (await http.post("/jobs", json={"title": "report"})).json()
    await log_in(http, "bob")
    await http.delete(f"/jobs/{job}")
    await trio.sleep(1)
    await log_in(http, "ann")
    await http.delete(f"/jobs/{job}")
    news = await until(one, "stopped")
    assert [item["state"] for item in news[:3]] == ["running"] * 3


async def test_a_job_that_fails_is_one_job(
    ws_server: ServerFixture, ws_http: HttpFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its user is told; the server and the next job go on."""

    async def fail(_progress: object) -> None:
        raise LookupError("no such file")

    server = await ws_server(application)
    http = await ws_http(server)
    one = await window(server, await log_in(http, "ann"))
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "work", fail)
        await http.post("/jobs", json={"title": "report"})
        await until(one, "failed")
    await http.post("/jobs", json={"title": "report"})
    await until(one, "done")


async def test_only_users_come_in(ws_server: ServerFixture, ws_http: HttpFixture) -> None:
    """Without the cookie, or with one of a stranger's making, both sides answer 401."""
    server = await ws_server(application)
    http = await ws_http(server)
    for cookie in ("", "session=", "session=made.up.token"):
        with pytest.raises(ws.HandshakeRefused, match="401"):
            await window(server, cookie)
        for method, path in (("GET", "/me"), ("POST", "/jobs"), ("DELETE", "/jobs/1")):
            answer = await http.request(method, path, headers={"Cookie": cookie}, json={"title": "report"})
            assert answer.status_code == 401


async def test_a_user_has_so_many_jobs_at_once(ws_server: ServerFixture, ws_http: HttpFixture) -> None:
    """One more is refused; another user's is not."""
    server = await ws_server(application)
    http = await ws_http(server)
    for name in ("ann", "bob"):
        await log_in(http, name)
        answers = [await http.post("/jobs", json={"title": "report"}) for _ in range(MOST_JOBS + 1)]
        assert [answer.status_code for answer in answers] == [202] * MOST_JOBS + [429]


@pytest.mark.usefixtures("autojump_clock")
async def test_the_end_of_the_server_stops_the_jobs() -> None:
    """Their user is told, so a window that comes back later shows no job that runs for ever."""
    async with ws.open_memory_broker() as broker:
        async with application(broker):
            jobs.web.state.jobs.start("ann", "report")
            await trio.sleep(1)
        newest = (await broker.history("user:ann", limit=1, reverse=True))[0]
        assert isinstance(newest, ws.Delivery)
        assert json.loads(newest.message)["state"] == "stopped"
