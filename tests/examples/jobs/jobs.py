"""Jobs with progress: FastAPI starts and stops them, a WebSocket tells the user's windows how they get on.

Both are one application, on one port. What becomes of a job is told on its user's topic, so it reaches all
windows of the user, on whichever worker, and a window that comes back gets what it has missed.
"""

import json
import logging
import os
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

import attrs
import trio
from fastapi import Body, Cookie, Depends, FastAPI, HTTPException, Request, Response
from fastapi.staticfiles import StaticFiles

import trio_ws_app as ws
from trio_ws_app import auth

SECRET = os.environ.get("JOBS_SECRET") or secrets.token_hex()  # workers have to share one
DAY = 24 * 3600
KEPT = ws.History(size=500, ttl=DAY)
MOST_JOBS = 5  # of one user, at once

verifier = auth.Verifier(auth.secret(SECRET))


async def work(progress: Callable[[int], Awaitable[None]]) -> None:
    """The work itself: yours goes here, and what blocks into ``trio.to_thread.run_sync``."""
    for percent in range(0, 100, 5):
        await progress(percent)
        await trio.sleep(0.4)


@attrs.define
class Jobs:
    """The jobs that run in this process, in the nursery of the application."""

    broker: ws.Broker
    nursery: trio.Nursery
    running: dict[str, trio.CancelScope] = attrs.field(factory=dict)  # by "JOB USER"

    def start(self, user: str, title: str) -> str:
        job = secrets.token_hex(6)
        self.running[f"{job} {user}"] = trio.CancelScope()
        self.nursery.start_soon(self.run, user, job, title)
        return job

    async def run(self, user: str, job: str, title: str) -> None:
        """Do a job to its end, whichever that is, and tell its user."""

        async def tell(state: str, percent: int) -> None:
            news = {"job": job, "title": title, "state": state, "percent": percent}
            with suppress(ws.BrokerUnavailable):  # the next news makes up for it
                await self.broker.publish(f"user:{user}", json.dumps(news), history=KEPT)

        state = "stopped"
        try:
            with self.running[f"{job} {user}"]:
                await work(lambda percent: tell("running", percent))
                state = "done"
        except Exception:
            logging.getLogger("jobs").exception("job %s of %s has failed", job, user)
            state = "failed"
        finally:
            del self.running[f"{job} {user}"]
            with trio.move_on_after(2, shield=True):
                await tell(state, 100)

    async def stop_when_told(self) -> None:
        """Stop the jobs that are named on the topic ``stop``, in whichever process they run."""
        async with self.broker.subscribe("stop") as names:
            async for name in names:
                if scope := self.running.get(str(name)):
                    scope.cancel()


@asynccontextmanager
async def application(broker: ws.Broker) -> AsyncGenerator[ws.App]:
    windows: ws.Registry[None]
    async with (
        ws.open_registry(
            broker=broker,
            envelope=lambda _, news, position: json.dumps(json.loads(news) | {"at": str(position)}),
            on_gap=lambda *_: json.dumps({"gap": True}),
        ) as windows,
        trio.open_nursery() as nursery,
    ):

        @auth.with_session(verifier)
        async def progress(connection: ws.Connection, session: auth.Session) -> None:
            query, topic = connection.request.query, f"user:{session.user.id}"
            since = ws.Position.parse(query["since"]) if "since" in query else None
            with windows.register(connection) as window:
                async with window.follow(topic, since=since, last=KEPT.size):
                    await connection.wait_closed()

        web.state.jobs = jobs = Jobs(broker, nursery)
        nursery.start_soon(jobs.stop_when_told)
        check = auth.bearer(verifier, auth.cookie("session"))
        yield ws.App(ws.Routes({"/progress": progress}), http=web, process_request=check)
        nursery.cancel_scope.cancel()


async def current_user(session: Annotated[str, Cookie()] = "") -> str:
    try:
        return verifier.user(session).id
    except auth.TokenRefused as refusal:
        raise HTTPException(401, str(refusal)) from None


web = FastAPI(title="Jobs")
User = Annotated[str, Depends(current_user)]


@web.post("/login", status_code=204)
async def login(
    name: Annotated[str, Body(embed=True, min_length=1, max_length=20)], answer: Response
) -> None:
    token = auth.sign(SECRET, {"sub": name, "exp": int(time.time()) + DAY})
    answer.set_cookie("session", token, max_age=DAY, httponly=True, samesite="strict")


@web.get("/me")
async def me(user: User) -> str:
    return user


@web.post("/jobs", status_code=202)
async def start(title: Annotated[str, Body(embed=True, max_length=80)], user: User, request: Request) -> str:
    jobs: Jobs = request.app.state.jobs
    if sum(key.partition(" ")[2] == user for key in jobs.running) >= MOST_JOBS:
        raise HTTPException(429, f"{MOST_JOBS} jobs at once are enough")
    return jobs.start(user, title)


@web.delete("/jobs/{job}", status_code=202)
async def stop(job: str, user: User, request: Request) -> None:
    jobs: Jobs = request.app.state.jobs
    await jobs.broker.publish("stop", f"{job} {user}")


page = Path(__file__).parent / "page"
web.mount("/", StaticFiles(directory=page, packages=[("trio_ws_app", "pages")], html=True))
