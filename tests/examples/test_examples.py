"""The examples as a newcomer meets them: by the command, over real sockets, and in a browser."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from axe import AXE, expect_accessible, needs_chromium
from browser import Browser, Tab, expect_good_looks, page_of, says
from redis_servers import RedisServer
from running import PATIENCE, Running, environment, serving
from websockets.sync.client import ClientConnection, connect

HERE = Path(__file__).parent
EXAMPLES = {"board_game": "game", "market": "market", "jobs": "jobs"}
CONNECTED = "document.querySelector('.status').textContent === 'connected'"
DISCS = """document.querySelectorAll('#board [data-seat="0"], #board [data-seat="1"]').length"""
LONGEST = 150  # lines


def test_the_examples_are_short_and_typed() -> None:
    """One file each, which is read at a sitting, and of which type checkers have nothing to say."""
    files = [HERE / folder / f"{module}.py" for folder, module in EXAMPLES.items()]
    assert all(len(file.read_text().splitlines()) < LONGEST for file in files)
    options = ("--strict", "--config-file=", "--cache-dir", HERE / ".mypy_cache")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *files],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE,
    )
    assert done.returncode == 0, done.stdout


@contextmanager
def example(folder: str, *options: str, **variables: str) -> Iterator[Running]:
    """An example that runs as its page says, in its folder."""
    with serving(f"{EXAMPLES[folder]}:application", *options, cwd=HERE / folder, **variables) as server:
        yield server
        stopped = server.stop()
        assert stopped.status == 0
        assert "ERROR" not in stopped.errors


def told(connection: ClientConnection, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first message that is wanted."""
    while True:
        message: dict[str, Any] = json.loads(connection.recv(timeout=PATIENCE))
        if wanted(message):
            return message


def click(tab: Tab, selector: str, number: int = 0) -> None:
    """Press a button."""
    tab.value(f"document.querySelectorAll({selector!r})[{number}].click()")


def reload(tab: Tab) -> None:
    """Load the page anew, as a person does."""
    tab.value("window.isOld = true")
    tab.value("location.reload()")
    tab.wait_for("!window.isOld && document.readyState === 'complete'")


def expect_a_good_page(tab: Tab) -> None:
    """It looks well, wide, narrow, light and dark; is accessible; and has nothing to complain of."""
    expect_good_looks(tab)
    if AXE.exists():
        expect_accessible(tab)
    tab.look()
    assert tab.complaints == []


# -- the board game ------------------------------------------------------------------------------


def at_table(server: Running, name: str, since: str = "") -> ClientConnection:
    return connect(f"{server.url}/table/red?name={name}&id=secret-of-{name}{since and f'&since={since}'}")


def test_a_game_outlives_its_server(own_redis: RedisServer) -> None:
    """Players of two workers; the server is stopped and started in the middle of a game, and it goes on."""
    options = ("--workers", "2", "--broker", own_redis.url)
    with example("board_game", *options) as server:  # noqa: SIM117
        with at_table(server, "ann") as ann, at_table(server, "bob") as bob:
            for player in (ann, bob):
                player.send('{"type": "sit"}')
                for each in (ann, bob):
                    told(each, lambda event: event["type"] == "sit")
            ann.send('{"type": "drop", "column": 3}')
            position = told(bob, lambda event: event["type"] == "drop")["at"]
    with example("board_game", *options) as server:  # noqa: SIM117
        with at_table(server, "bob", position) as bob, at_table(server, "cleo") as cleo:
            bob.send('{"type": "drop", "column": 4}')
            assert told(bob, lambda event: "at" in event)["column"] == 4
            moves = [told(cleo, lambda event: "at" in event) for _ in range(4)]
            assert [(move["type"], move["name"], move["column"]) for move in moves] == [
                ("sit", "ann", 0),
                ("sit", "bob", 0),
                ("drop", "ann", 3),
                ("drop", "bob", 4),
            ]


def come(browser: Browser, server: Running, name: str) -> Tab:
    """A window in which a player has come to the table."""
    tab = browser.tab(page_of(server))
    tab.wait_for("document.activeElement.id === 'name'")
    tab.value("document.activeElement.select()")
    tab.type(f"{name}\n")
    tab.wait_for(CONNECTED)
    return tab


@needs_chromium
def test_two_windows_play(browser: Browser) -> None:
    """Until one has four in a row; one of them is loaded anew in the middle, and is still in its seat."""
    with example("board_game") as server:
        ann = browser.tab(page_of(server))
        expect_a_good_page(ann)
        ann.close()
        ann, bob = come(browser, server, "Ann"), come(browser, server, "Bob")
        click(ann, "#sit")
        bob.wait_for(says("Ann waits"))
        click(bob, "#sit")
        for number, column in enumerate((3, 0, 3, 0, 3, 0)):
            player = (ann, bob)[number % 2]
            player.wait_for(f"{DISCS} === {number} && {says('Your turn')}")
            click(player, "#board button", column)
        ann.wait_for(f"{DISCS} === 6 && {says('Your turn')}")
        expect_a_good_page(ann)
        reload(ann)
        ann.wait_for("document.activeElement.id === 'name'")
        ann.type("\n")
        ann.wait_for(f"{DISCS} === 6 && {says('Your turn')}")
        assert "Bob, away" not in ann.text()
        click(ann, "#board button", 3)
        bob.wait_for(says("Ann has won"))
        assert bob.value("document.querySelectorAll('.won').length") == 4
        bob.close()
        ann.wait_for(says("Ann has won"))


# -- the market ----------------------------------------------------------------------------------


@contextmanager
def feed(broker: str) -> Iterator[None]:
    """The program that makes the prices, for the length of the block."""
    command = [sys.executable, "market.py", broker]
    with subprocess.Popen(command, cwd=HERE / "market", env=environment()) as process:
        try:
            yield
        finally:
            process.terminate()


def test_all_workers_have_the_prices(redis_server: RedisServer) -> None:
    """They come from a program of its own; when that has ended, a client still has the last ones at once."""
    with example("market", "--workers", "2", "--broker", redis_server.url) as server:
        with feed(redis_server.url), ExitStack() as stack:
            clients = [stack.enter_context(connect(server.url)) for _ in range(6)]
            for client in clients:
                client.send('{"watch": "GOLD"}')
            for client in clients:
                assert told(client, lambda news: "price" in news)["symbol"] == "GOLD"
        with connect(server.url) as late:
            late.send('{"watch": "GOLD"}')
            assert told(late, lambda news: "price" in news)["open"] > 0


@needs_chromium
def test_a_window_watches_prices(browser: Browser) -> None:
    """Those that are chosen, in their order; they move; what is chosen is remembered."""
    with example("market") as server:
        tab = browser.tab(page_of(server))
        shown = "[...document.querySelectorAll('#prices tr')].map((row) => row.cells[0].textContent).join()"
        tab.wait_for(f"{shown} === 'ACME,GOLD'")
        click(tab, "#symbols button", 3)
        tab.wait_for(f"{shown} === 'ACME,DUNE,GOLD'")
        tab.wait_for(
            "document.querySelector('#prices polyline').getAttribute('points').split(' ').length > 2"
        )
        expect_a_good_page(tab)
        click(tab, "#symbols button", 0)
        tab.wait_for(f"{shown} === 'DUNE,GOLD'")
        reload(tab)
        tab.wait_for(f"{shown} === 'DUNE,GOLD'")
        for number in (3, 6):
            click(tab, "#symbols button", number)
        assert "Nothing is watched." in tab.text()


# -- jobs ----------------------------------------------------------------------------------------


def test_jobs_of_any_worker_are_told_and_stopped(redis_server: RedisServer) -> None:
    """Over HTTP to whichever worker; windows on both hear of every job of their user, and of its end."""
    options, shared = ("--workers", "2", "--broker", redis_server.url), {"JOBS_SECRET": "of all workers" * 3}
    with example("jobs", *options, **shared) as server, ExitStack() as stack:
        site = page_of(server)
        cookies = httpx.post(f"{site}login", json={"name": "ann"}).cookies
        header = {"Cookie": f"session={cookies['session']}"}
        windows = [
            stack.enter_context(connect(f"{server.url}/progress", additional_headers=header))
            for _ in range(4)
        ]
        for _ in range(4):  # each request is a connection of its own
            job = httpx.post(f"{site}jobs", json={"title": "report"}, headers=header).json()
            for window in windows:
                told(window, lambda news, job=job: news["job"] == job and news["state"] == "running")
            httpx.delete(f"{site}jobs/{job}", headers=header)
            for window in windows:
                told(window, lambda news, job=job: news["job"] == job and news["state"] == "stopped")


@needs_chromium
def test_a_window_shows_jobs(browser: Browser) -> None:
    """Logged in once, a second window shows the same jobs; each can stop them."""
    with example("jobs") as server:
        one = browser.tab(page_of(server))
        one.wait_for("document.activeElement.id === 'name'")
        assert [text for text in one.complaints if "401" not in text] == []  # not logged in yet
        one.complaints.clear()
        expect_a_good_page(one)
        one.type("Ann\n")
        one.wait_for(CONNECTED)
        one.type("Report\n")
        one.wait_for(says("5 %"))
        other = browser.tab(page_of(server))
        other.wait_for(says("Report"))
        expect_a_good_page(other)
        click(other, "#jobs button")
        one.wait_for(says("stopped"))
        other.wait_for(says("stopped"))
        expect_a_good_page(one)
