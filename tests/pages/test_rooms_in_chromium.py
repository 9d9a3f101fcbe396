"""The page with rooms as people use it: in a real browser, by keyboard, against a real server."""

from __future__ import annotations

import pytest
from axe import needs_chromium
from browser import Browser, Tab, expect_good_looks, join, page_of, says
from centrifuge_clients import needs, program, real_client
from redis_servers import RedisServer
from running import Running, serving

from trio_ws_app.apps.notifications import Tokens

pytestmark = needs_chromium

SECRET = "a long random text"
BUBBLES = "[...document.querySelectorAll('.log:not([hidden]) .bubble')].map((item) => item.innerText).join()"
TALK = """
(async () => {
  const {connect} = await import('/channels.js');
  const client = connect({data: {name: 'Bob'}});
  const room = client.subscribe('room:lobby', {onSubscribed() {
    window.said = 0;
    window.timer = setInterval(() => room.publish({text: `${said++}`}), 40);
  }});
})()
"""
SLOW_TO_ASK_FOR_THE_HISTORY = """
const {send} = WebSocket.prototype;
WebSocket.prototype.send = function(text) {
  setTimeout(() => send.call(this, text), text.includes('"history"') ? 200 : 0);
};
"""
PEOPLE = "[...document.querySelectorAll('#people li')].map((item) => item.innerText).join()"


def join_with_token(browser: Browser, server: Running, token: str) -> Tab:
    """A tab in which the owner of a token has joined."""
    tab = browser.tab(page_of(server))
    tab.value("document.querySelector('summary').click(), document.getElementById('token').focus()")
    tab.type(f"{token}\n")
    tab.wait_for(says("you are "))
    return tab


def press(tab: Tab, name: str) -> None:
    """Press the button or link with this name, once it is there."""
    button = f"[...document.querySelectorAll('button, a')].find((one) => one.innerText.startsWith({name!r}))"
    tab.wait_for(f"{button} !== undefined")
    tab.value(f"{button}.click()")


@pytest.mark.slow
def test_two_tabs_in_two_rooms(browser: Browser) -> None:
    """Messages, typing, people, unread messages of another room, and looks."""
    with serving("rooms") as server:
        ada, grace = join(browser, server, "Ada"), join(browser, server, "Grace")
        ada.wait_for(f"{PEOPLE} === 'Ada (you),Grace'")
        grace.type("good")
        ada.wait_for(says("Grace is typing"))
        grace.type(" morning\n")
        ada.wait_for(f"{BUBBLES} === 'good morning'")
        ada.wait_for("document.getElementById('typing').textContent === ''")
        grace.value("document.getElementById('other').focus()")
        grace.type("python\n")
        grace.wait_for(says("#python"))
        ada.type("are you there?\n")
        grace.wait_for("document.querySelector('.unread')?.innerText.startsWith('1')")
        press(grace, "#lobby")
        grace.wait_for(f"{BUBBLES} === 'good morning,are you there?'")
        expect_good_looks(grace)
        assert ada.complaints == grace.complaints == []
        grace.close()
        ada.wait_for(f"{PEOPLE} === 'Ada (you)'")


def test_direct_messages(browser: Browser) -> None:
    """A name opens a conversation with that person alone, which the other finds among the rooms."""
    with serving("rooms") as server:
        ada, grace = join(browser, server, "Ada"), join(browser, server, "Grace")
        press(ada, "Grace")
        ada.wait_for(says("only Grace can read"))
        ada.type("psst\n")
        press(grace, "Ada")
        grace.wait_for(f"{BUBBLES} === 'psst'")
        grace.type("yes?\n")
        ada.wait_for(f"{BUBBLES} === 'psst,yes?'")


def test_a_moderator_removes_a_member(browser: Browser) -> None:
    """The one removed is told, and can say no more there."""
    with serving("rooms", TRIO_WS_APP_SECRET=SECRET) as server:
        ada = join(browser, server, "Ada")
        grace = join_with_token(browser, server, Tokens(SECRET).sign("Grace", ["moderate"]))
        ada.wait_for(f"{PEOPLE}.includes('moderator')")
        press(grace, "Remove")
        ada.wait_for(says("removed by a moderator"))
        grace.wait_for(f"{PEOPLE} === 'Grace (you)'")


def test_a_wrong_token_can_be_corrected(browser: Browser) -> None:
    """The dialog says what is wrong, and stays."""
    with serving("rooms", TRIO_WS_APP_SECRET=SECRET) as server:
        tab = browser.tab(page_of(server))
        tab.value("document.querySelector('summary').click(), document.getElementById('token').focus()")
        tab.type("wrong\n")
        tab.wait_for("document.getElementById('problem').textContent.includes('invalid token')")
        tab.value("document.activeElement.select()")
        tab.type(Tokens(SECRET).sign("Grace", []) + "\n")
        tab.wait_for(says("you are Grace"))


@pytest.mark.slow
def test_the_page_shows_what_it_missed(browser: Browser, own_redis: RedisServer) -> None:
    """While its server restarts another one takes messages: they come, once and in order."""
    with (
        serving("rooms", "--broker", own_redis.url) as one,
        serving("rooms", "--broker", own_redis.url) as other,
    ):
        ada, grace = join(browser, one, "Ada"), join(browser, other, "Grace")
        grace.type("first\n")
        ada.wait_for(f"{BUBBLES} === 'first'")
        one.stop()
        ada.wait_for(says("reconnecting"))
        grace.type("second\nthird\n")
        grace.wait_for(f"{BUBBLES} === 'first,second,third'")
        with serving("rooms", "--broker", own_redis.url, "--port", str(one.port)):
            ada.wait_for(says("connected again"))
            ada.wait_for(f"{BUBBLES} === 'first,second,third'")
            ada.type("fourth\n")
            grace.wait_for(f"{BUBBLES} === 'first,second,third,fourth'")
        while_away = ("ERR_CONNECTION_REFUSED", "Unexpected response code: 503")
        assert [text for text in ada.complaints if not any(words in text for words in while_away)] == []


def test_a_busy_room_is_shown_from_its_history_on(browser: Browser) -> None:
    """What is said while the page asks for it comes after it, and once."""
    with serving("rooms") as server:
        grace = join(browser, server, "Grace")
        grace.value(TALK)
        grace.wait_for(f"{BUBBLES} !== ''")
        ada = browser.tab(page_of(server))
        ada.value(SLOW_TO_ASK_FOR_THE_HISTORY)
        ada.value("document.getElementById('name').select()")
        ada.type("Ada\n")
        ada.wait_for(says("you are Ada"))
        said = grace.value("clearInterval(timer), said")
        ada.wait_for(f"{BUBBLES}.endsWith('{said - 1}')")
        numbers = [int(text) for text in ada.value(BUBBLES).split(",")]
        assert numbers == list(range(numbers[0], said))


def test_a_room_that_is_left_before_it_is_there_is_left(browser: Browser) -> None:
    """It was opened and left while the server was away."""
    with serving("rooms") as server:
        ada, port = join(browser, server, "Ada"), str(server.port)
    ada.wait_for(says("reconnecting"))
    ada.value("document.getElementById('other').focus()")
    ada.type("python\n")
    press(ada, "#python")
    press(ada, "\N{MULTIPLICATION SIGN}")
    with serving("rooms", "--port", port) as server:
        ada.wait_for(says("connected again"))
        grace = join(browser, server, "Grace")
        grace.value("document.getElementById('other').focus()")
        grace.type("python\n")
        grace.wait_for(f"{PEOPLE} === 'Grace (you)'")
        grace.type("nobody hears this\n")
        grace.wait_for(f"{BUBBLES} === 'nobody hears this'")
    assert not [text for text in ada.complaints if "TypeError" in text]


@needs("node")
def test_the_page_talks_to_the_package_centrifuge(browser: Browser) -> None:
    """What others' clients say the page shows, with their names, and the other way round."""
    with serving("rooms") as server, program("node") as node, real_client(node, server) as grace:
        ada = join(browser, server, "Ada")
        grace.connect("Grace")
        grace.subscribe("room:lobby")
        ada.wait_for(f"{PEOPLE} === 'Ada (you),Grace'")
        grace.do("publish", channel="room:lobby", data={"text": "hello from Node.js"})
        ada.wait_for(f"{BUBBLES} === 'hello from Node.js'")
        ada.type("hello from the page\n")
        grace.expect("publication", channel="room:lobby")
        heard = grace.expect("publication", channel="room:lobby")
        assert heard["data"]["text"] == "hello from the page"
        assert heard["user"].startswith("Ada~")
