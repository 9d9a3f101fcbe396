"""The pages as a person uses them: in a real browser, by keyboard, against a real server."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from browser import CHROMIUM, Browser, Tab, chromium
from redis_servers import RedisServer
from running import Running, serving

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="needs Chromium: apt-get install chromium"
)

STATUS = "document.querySelector('.status').textContent"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
FITS = """
document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight
"""
TOUCHABLE = """
[...document.querySelectorAll('button')].filter((b) => b.offsetHeight > 0).every((b) => b.offsetHeight >= 44)
"""
INKED = """
(() => {
  const canvas = document.getElementById('plot');
  const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return pixels.filter((value, index) => index % 4 === 3 && value > 0).length;
})()
"""


@pytest.fixture(scope="module")
def one_chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests of this file."""
    with chromium(tmp_path_factory.mktemp("chromium") / "profile") as running:
        yield running


@pytest.fixture
def browser(one_chromium: Browser) -> Iterator[Browser]:
    """The browser, without tabs that an earlier test left open."""
    yield one_chromium
    one_chromium.close_tabs()


def page_of(server: Running) -> str:
    """The address of the server's page."""
    return f"http://127.0.0.1:{server.port}/"


def says(text: str) -> str:
    """An expression that is true when the page shows the text."""
    return f"document.body.innerText.includes({text!r})"


def join(browser: Browser, server: Running, name: str) -> Tab:
    """A tab in which ``name`` has joined the chat, by keyboard alone."""
    tab = browser.tab(page_of(server))
    tab.wait_for("document.activeElement.id === 'name'")
    tab.value("document.activeElement.select()")
    tab.type(f"{name}\n")
    tab.wait_for(says(f"you are {name}"))
    return tab


def expect_good_looks(tab: Tab) -> None:
    """The page follows the colour scheme and fits the screen, wide or narrow, without scrolling it."""
    shots = [tab.look(), tab.look(dark=True)]
    dark = tab.value(BACKGROUND)
    shots.append(tab.look(width=360, height=640))
    assert dark != tab.value(BACKGROUND)
    assert len(set(shots)) == 3
    assert tab.value(FITS)
    assert tab.value(TOUCHABLE)


def test_two_tabs_talk(browser: Browser) -> None:
    """What one tab says the other shows; both know who is here; a closed tab has left."""
    with serving("chat") as server:
        ada, grace = join(browser, server, "Ada"), join(browser, server, "Grace")
        ada.wait_for(says("Grace joined"))
        grace.type("good morning\n")
        ada.wait_for(says("good morning"))
        ada.type("<b>hello</b> & goodbye\n")
        grace.wait_for(says("<b>hello</b> & goodbye"))
        people = "[...document.querySelectorAll('#people li')].map((item) => item.textContent).join()"
        assert ada.value(people) == "Ada (you),Grace"
        expect_good_looks(ada)
        assert ada.complaints == []
        grace.close()
        ada.wait_for(says("Grace left"))
        ada.wait_for(f"{people} === 'Ada (you)'")


def test_the_page_comes_back_by_itself(browser: Browser) -> None:
    """While the server restarts the page says so; afterwards it is connected again, under the same name."""
    with serving("chat") as server:
        port = server.port
        tab = join(browser, server, "Ada")
        server.stop()
        tab.wait_for(f"{STATUS} === 'reconnecting…'")
        assert tab.value("document.querySelector('#say button').disabled")
    with serving("chat", "--port", str(port)) as server:
        tab.wait_for(f"{STATUS} === 'connected'")
        tab.wait_for("document.body.innerText.match(/you are Ada/g)?.length === 2")
        grace = join(browser, server, "Grace")
        grace.type("welcome back\n")
        tab.wait_for(says("welcome back"))


def test_the_page_shows_what_it_missed(browser: Browser, own_redis: RedisServer) -> None:
    """Lines that were said while the page was away come when it is back, and no line comes twice."""
    broker = ("--broker", own_redis.url)
    with serving("chat", *broker) as other:
        with serving("chat", *broker) as server:
            port = server.port
            ada, grace = join(browser, server, "Ada"), join(browser, other, "Grace")
            grace.type("before\n")
            ada.wait_for(says("before"))
            server.stop()
            ada.wait_for(f"{STATUS} === 'reconnecting…'")
        grace.type("meanwhile\n")
        grace.wait_for(says("meanwhile"))
        with serving("chat", *broker, "--port", str(port)):
            ada.wait_for(f"{STATUS} === 'connected'")
            ada.wait_for(says("meanwhile"))
            grace.type("after\n")
            ada.wait_for(says("after"))
            lines = "[...document.querySelectorAll('#log .message')].map((item) => item.innerText).join()"
            assert ada.value(lines).replace("\n", "") == "Gracebefore,Gracemeanwhile,Graceafter"
            assert "missing" not in ada.text()
            assert "you are Ada2" not in ada.text()


def test_echo_page(browser: Browser) -> None:
    """What is typed comes back, with the time that it took."""
    with serving("echo") as server:
        tab = browser.tab(page_of(server))
        tab.wait_for(f"{STATUS} === 'connected'")
        tab.type("one\ntwo\n")
        tab.wait_for(says("2 came back"))
        assert "one" in tab.text()
        expect_good_looks(tab)
        assert tab.complaints == []


def test_counter_page(browser: Browser) -> None:
    """All see the value that any of them changes, by button or by key."""
    with serving("counter") as server:
        one, two = browser.tab(page_of(server)), browser.tab(page_of(server))
        one.wait_for(says("2 people are here."))
        for _ in range(3):
            one.key("+", "+")
        two.wait_for("document.getElementById('value').textContent === '3'")
        two.value("document.getElementById('less').click()")
        one.wait_for("document.getElementById('value').textContent === '2'")
        expect_good_looks(one)
        assert one.complaints + two.complaints == []
        two.close()
        one.wait_for(says("Only you are here."))


def test_ticker_page(browser: Browser) -> None:
    """Values arrive and are drawn as a line."""
    with serving("ticker") as server:
        tab = browser.tab(page_of(server))
        tab.wait_for(says("since the value before"))
        tab.wait_for(f"{INKED} > 100")
        expect_good_looks(tab)
        tab.wait_for(f"{INKED} > 100")
        assert tab.complaints == []
