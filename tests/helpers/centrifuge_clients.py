"""Real clients of the channel protocol: ``centrifuge`` in Node.js and in a page, ``centrifuge-python``."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from browser import CHROMIUM, Browser, Tab
from running import Running

PATIENCE = 30.0
CLIENTS = Path(__file__).parent.parent / "channels" / "clients"
PACKAGE = Path(__file__).parent.parent / "node_modules" / "centrifuge"
KINDS = ("node", "page", "python")


def missing(kind: str) -> str | None:
    """Why a kind of client cannot be had here; with ``CI`` set it has to be."""
    if "CI" in os.environ:
        return None
    if kind != "python" and not PACKAGE.exists():
        return "needs the package centrifuge: npm install --prefix tests"
    if kind == "node" and shutil.which("node") is None:
        return "needs Node.js"
    if kind == "page" and CHROMIUM is None:
        return "needs Chromium: apt-get install chromium"
    return None


class Driver(Protocol):
    """Carries orders to the client, and what it tells back."""

    def say(self, order: dict[str, Any]) -> None: ...
    def told(self) -> list[dict[str, Any]]:
        """What has been told since the last time, perhaps after a moment."""
        ...


class RealClient:
    """A client of another project."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._events: list[dict[str, Any]] = []
        self._number = 0

    def order(self, order: str, **fields: Any) -> dict[str, Any]:
        """Give an order, and wait until it is carried out; its outcome, with ``result`` or ``code``."""
        self._number += 1
        self._driver.say({"number": self._number, "order": order, **fields})
        return self._await(number=self._number)

    def do(self, order: str, **fields: Any) -> Any:
        """Give an order that is carried out; its result."""
        outcome = self.order(order, **fields)
        assert outcome["event"] == "done", outcome
        return outcome.get("result")

    def refused(self, order: str, **fields: Any) -> int:
        """Give an order that fails; the code of the error."""
        outcome = self.order(order, **fields)
        assert outcome["event"] == "failed", outcome
        code: int = outcome["code"]
        return code

    def connect(self, name: str = "", **options: Any) -> dict[str, Any]:
        """Connect as the user with this name; returns what is told of it."""
        settings = options.pop("settings", {"data": {"name": name}})
        self.do("create", settings=settings, **options)
        return self.expect("connected")

    def subscribe(self, channel: str, **options: Any) -> dict[str, Any]:
        """Subscribe; returns what is told of it."""
        self.do("subscribe", channel=channel, **options)
        return self.expect("subscribed", channel=channel)

    def expect(self, event: str, **fields: Any) -> dict[str, Any]:
        """The next event of this kind, with these fields; others are kept."""
        return self._await(event=event, **fields)

    def publications(self, channel: str, count: int) -> list[Any]:
        """The data of the next publications in a channel."""
        return [self.expect("publication", channel=channel)["data"] for _ in range(count)]

    def has_told(self, event: str) -> bool:
        """Whether an event of this kind has come that was not expected."""
        self._events += self._driver.told()
        return any(one["event"] == event for one in self._events)

    def _await(self, **fields: Any) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while True:
            for place, event in enumerate(self._events):
                if fields.items() <= event.items():
                    del self._events[place]
                    return event
            assert time.monotonic() < deadline, f"no {fields} in {self._events}"
            self._events += self._driver.told()


class Program:
    """A process in which clients live, each with a number."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._told: list[queue.SimpleQueue[dict[str, Any]]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def end(self) -> None:
        """Kill the process; all that it has told was read then."""
        self._process.kill()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.endswith("\n"):  # else it was killed in the middle of one
                event = json.loads(line)
                self._told[event.pop("client")].put(event)

    def new_client(self) -> tuple[int, queue.SimpleQueue[dict[str, Any]]]:
        """Its number, and what it will tell."""
        self._told.append(queue.SimpleQueue())
        return len(self._told) - 1, self._told[-1]

    def say(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()


class ProgramDriver:
    """A client in a process, beside others."""

    def __init__(self, program: Program, url: str) -> None:
        self._program, self._url = program, url
        self._number, self._told = program.new_client()

    def say(self, order: dict[str, Any]) -> None:
        self._program.say({"client": self._number, "url": self._url, **order})

    def told(self) -> list[dict[str, Any]]:
        try:
            events = [self._told.get(timeout=0.05)]
        except queue.Empty:
            return []
        while not self._told.empty():
            events.append(self._told.get())
        return events


class PageDriver:
    """A client in a page of the server's own port, beside others."""

    def __init__(self, tab: Tab, url: str) -> None:
        self._tab = tab
        if not tab.value("'drivers' in window"):
            package = (PACKAGE / "dist" / "centrifuge.js").read_text()
            source = (CLIENTS / "centrifuge_driver.mjs").read_text().partition("\nif (typeof process")[0]
            tab.value(f"{package}\n{source}; window.drivers = []; 0")
        told = f"const told = []; const obey = drive(Centrifuge, {url!r}, {{}}, (what) => told.push(what))"
        self._name = f"drivers[{tab.value(f'{{ {told}; drivers.push({{ told, obey }}) - 1 }}')}]"

    def say(self, order: dict[str, Any]) -> None:
        self._tab.value(f"{self._name}.obey({json.dumps(order)}), 0")

    def told(self) -> list[dict[str, Any]]:
        told = self._tab.value(f"JSON.stringify({self._name}.told.splice(0))")
        if told == "[]":
            time.sleep(0.02)
        events: list[dict[str, Any]] = json.loads(told)
        return events


@contextmanager
def program(kind: str) -> Iterator[Program]:
    """A process for clients of this kind, until the block ends."""
    command = {
        "node": ["node", str(CLIENTS / "centrifuge_driver.mjs")],
        "python": [sys.executable, str(CLIENTS / "python_driver.py")],
    }[kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        clients = Program(process)
        try:
            yield clients
        finally:
            clients.end()


@contextmanager
def real_client(place: Program | Browser, server: Running) -> Iterator[RealClient]:
    """A client that connects to the server, until the block ends."""
    url = f"ws://127.0.0.1:{server.port}/connection/websocket"
    if isinstance(place, Browser):
        yield RealClient(PageDriver(place.tab_of(f"http://127.0.0.1:{server.port}/"), url))
        return
    driver = ProgramDriver(place, url)
    try:
        yield RealClient(driver)
    finally:
        driver.say({"number": 0, "order": "disconnect"})


def needs(kind: str) -> pytest.MarkDecorator:
    """Skips where this kind of client cannot be had."""
    reason = missing(kind)
    return pytest.mark.skipif(reason is not None, reason=reason or "")
