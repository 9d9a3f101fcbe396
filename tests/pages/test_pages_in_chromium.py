"""The pages as a person uses them: in a real browser, by keyboard, against a real server."""

from __future__ import annotations

import re

import pytest
from axe import needs_chromium
from browser import Browser, Tab, expect_good_looks, join, page_of, says
from redis_servers import RedisServer
from running import Running, run, serving

from trio_ws_app.apps.notifications import Tokens

pytestmark = needs_chromium

STATUS = "document.querySelector('.status').textContent"
LOG = "document.getElementById('log')"
BUBBLES = "[...document.querySelectorAll('#log .bubble')].map((item) => item.innerText).join()"
END_IS_SEEN = f"""
[...{LOG}.querySelectorAll('li')].at(-1).getBoundingClientRect().bottom
  <= {LOG}.getBoundingClientRect().bottom
"""
INKED_COLUMNS = """
(() => {
  const canvas = document.getElementById('plot');
  const pen = canvas.getContext('2d');
  const [red, green, blue] = getComputedStyle(document.documentElement).getPropertyValue('--accent')
    .match(/[0-9a-f]{2}/g).map((digits) => parseInt(digits, 16));
  const {data} = pen.getImageData(0, 0, canvas.width, canvas.height);
  const inked = new Set();
  for (let at = 0; at < data.length; at += 4) {
    if (data[at] === red && data[at + 1] === green && data[at + 2] === blue) inked.add(at / 4 % canvas.width);
  }
  return inked.size / (canvas.width - 52);
})()
"""


@pytest.mark.slow
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
        assert ada.value("document.getElementById('here').textContent") == "Here (2)"
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
            assert ada.value(BUBBLES) == "before,meanwhile,after"
            before, missed = (ada.text().index(words) for words in ("before", "while you were away"))
            assert before < missed
            assert "missing" not in ada.text()
            assert "you are Ada2" not in ada.text()


def test_lines_of_one_person_are_one_group(browser: Browser) -> None:
    """Only the first of them has a name and a time; where there are none, the page says how to begin."""
    empty = "document.querySelector('.empty').offsetHeight > 0"
    with serving("chat") as server:
        ada, grace = join(browser, server, "Ada"), join(browser, server, "Grace")
        assert says_when_empty(ada, f"trio-ws-app connect {server.url}/")
        grace.type("one\ntwo\n")
        ada.wait_for(f"{BUBBLES} === 'one,two'")
        ada.type("three\n")
        ada.wait_for(f"{BUBBLES} === 'one,two,three'")
        heads = "[...document.querySelectorAll('#log .head')].map((item) => item.innerText)"
        first, second, third = ada.value(heads)
        assert re.fullmatch(r"Grace\s+\d+:\d\d.*", first)
        assert (second, ada.value("document.querySelectorAll('.follows').length")) == ("Grace", 1)
        assert re.fullmatch(r"You\s+\d+:\d\d.*", third)
        assert not ada.value(empty)


def says_when_empty(tab: Tab, words: str) -> bool:
    """Whether the log is empty and these words stand in its place."""
    return bool(tab.value(f"document.querySelector('.empty').innerText.includes({words!r})"))


def test_a_long_draft_hides_no_message(browser: Browser) -> None:
    """The end of the log stays in view when the box grows; a reader who has scrolled back is left alone."""
    with serving("chat") as server:
        ada = join(browser, server, "Ada")
        for number in range(30):
            ada.type(f"line {number}\n")
        ada.wait_for(says("line 29"))
        assert ada.value(END_IS_SEEN)
        ada.type("a long draft " * 100)
        ada.wait_for("document.getElementById('text').clientHeight > 100")
        ada.wait_for(END_IS_SEEN)
        ada.value(f"{LOG}.scrollTop = 0")
        ada.look(width=360, height=640)
        assert ada.value(f"{LOG}.scrollTop") == 0


def test_a_line_that_a_program_publishes_is_a_notice(browser: Browser, own_redis: RedisServer) -> None:
    """It has no name and no position; the page shows it, and comes back as ever."""
    with serving("chat", "--broker", own_redis.url) as server:
        ada = join(browser, server, "Ada")
        run("publish", "chat", "closed at five", "--broker", own_redis.url)
        ada.wait_for("document.querySelector('.notice:last-child').innerText === 'closed at five'")
        run("publish", "chat", "@all lunch", "--broker", own_redis.url)
        ada.wait_for("document.querySelector('.notice:last-child').innerText === '@all lunch'")
        run("publish", "chat", "ops: down: soon", "--broker", own_redis.url)
        ada.wait_for(f"{BUBBLES} === 'down: soon'")
        assert ada.complaints == []


def test_echo_page(browser: Browser) -> None:
    """What is typed comes back, with the time that it took."""
    with serving("echo") as server:
        tab = browser.tab(page_of(server))
        tab.wait_for(f"{STATUS} === 'connected'")
        assert says_when_empty(tab, "Nothing sent yet")
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
        for _ in range(3):
            one.key("-", "-")
        one.wait_for("document.getElementById('value').textContent === '\u22121'")
        expect_good_looks(one)
        assert one.complaints + two.complaints == []
        two.close()
        one.wait_for(says("Only you are here."))


def test_ticker_page(browser: Browser) -> None:
    """The last two minutes are there in a moment, and values go on to arrive."""
    with serving("ticker") as server:
        tab = browser.tab(page_of(server))
        tab.wait_for(says("since the value before"))
        tab.wait_for(f"{INKED_COLUMNS} > 0.9")
        shown = "document.getElementById('value').textContent"
        before = tab.value(shown)
        tab.wait_for(f"{shown} !== {before!r}")
        expect_good_looks(tab)
        tab.wait_for(f"{INKED_COLUMNS} > 0.9")
        assert tab.complaints == []


SECRET = {"TRIO_WS_APP_SECRET": "a long random text"}


def enter(browser: Browser, server: Running) -> Tab:
    """A tab in which ann, who may see orders, has given a wrong token and then her own, by keyboard alone."""
    tab = browser.tab(page_of(server))
    tab.wait_for("document.activeElement.id === 'token'")
    tab.type("wrong\n")
    tab.wait_for(says("The token is wrong"))
    tab.wait_for("document.activeElement.id === 'token'")
    tab.type(f"{Tokens(SECRET['TRIO_WS_APP_SECRET']).sign('ann', ['orders'])}\n")  # over what is selected
    tab.wait_for(says("ann sees events about orders"))
    tab.wait_for("document.activeElement.id === 'log'")
    return tab


def test_notifications_page(browser: Browser, redis_server: RedisServer) -> None:
    """A wrong token can be corrected, events are cards with topic and time, another token can be given."""
    broker = ("--broker", redis_server.url)
    with serving("notifications", *broker, **SECRET) as server:
        tab = enter(browser, server)
        assert says_when_empty(tab, "trio-ws-app publish event:orders")
        run("publish", "event:orders", '{"order": 7}', *broker)
        run("publish", "user:ann", "hello", *broker)
        tab.wait_for(says("hello"))
        cards = tab.value("[...document.querySelectorAll('.event')].map((item) => item.innerText)")
        assert re.fullmatch(r'orders\s+\d+:\d\d.*\s+\{"order": 7\}', cards[0])
        assert re.fullmatch(r"to you\s+\d+:\d\d.*\s+hello", cards[1])
        expect_good_looks(tab)
        tab.value("document.getElementById('change').click()")
        tab.wait_for("document.activeElement.id === 'token'")
        assert tab.value(STATUS) == "not connected"
        assert tab.complaints == []


def test_notifications_page_says_when_redis_is_away(browser: Browser, own_redis: RedisServer) -> None:
    """While it is away there is a banner, and afterwards events go on."""
    broker = ("--broker", own_redis.url)
    with serving("notifications", *broker, **SECRET) as server:
        tab = enter(browser, server)
        own_redis.stop()
        tab.wait_for(says("has lost its Redis"))
        own_redis.start()
        tab.wait_for("document.getElementById('away').hidden")
        run("publish", "user:ann", "again", *broker)
        tab.wait_for(says("again"))
        assert tab.complaints == []


def test_a_token_can_be_given_anew_while_the_server_is_away(browser: Browser) -> None:
    """Nothing is lost or hidden meanwhile, and it is the last token that counts."""
    with serving("notifications", **SECRET) as server:
        tab, port = browser.tab(page_of(server)), server.port
    tab.wait_for("document.activeElement.id === 'token'")
    tab.type("wrong\n")
    tab.wait_for(f"{STATUS} === 'reconnecting…'")
    assert tab.value("document.getElementById('enter').offsetHeight > 0")
    tab.value("document.activeElement.select()")
    tab.type(f"{Tokens(SECRET['TRIO_WS_APP_SECRET']).sign('ann', [])}\n")
    with serving("notifications", "--port", str(port), **SECRET):
        tab.wait_for(says("ann sees events for you alone"))
        assert "wrong" not in tab.text()
