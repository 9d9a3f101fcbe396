"""The pages for eyes, keyboards and screen readers of all kinds: axe-core, and what it has no rule for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe import expect_accessible, needs_axe, needs_chromium
from browser import Browser, Tab, page_of, says
from running import serving

from trio_ws_app.apps.notifications import Tokens

pytestmark = [needs_chromium, needs_axe]

SECRET = {"TRIO_WS_APP_SECRET": "a long random text"}
# The controls that another element lies upon, once they are scrolled to.
COVERED = """
[...document.querySelectorAll('input, textarea, button')].filter((control) => control.checkVisibility())
  .filter((control) => {
    control.scrollIntoView({block: 'center', behavior: 'instant'});
    const {left, top, width, height} = control.getBoundingClientRect();
    return document.elementFromPoint(left + width / 2, top + height / 2) !== control;
  }).map((control) => control.outerHTML)
"""


def connected(tab: Tab) -> None:
    tab.wait_for("document.querySelector('.status').textContent === 'connected'")


def chatted(tab: Tab) -> None:
    tab.type("Ada\n")
    connected(tab)
    tab.wait_for(says("Nobody has said anything"))
    expect_accessible(tab)
    tab.type("one\ntwo\n")
    tab.wait_for(says("two"))


def echoed(tab: Tab) -> None:
    connected(tab)
    tab.type("one\n")
    tab.wait_for(says("1 came back"))


def notified(tab: Tab) -> None:
    tab.type("wrong\n")
    tab.wait_for(says("The token is wrong"))
    expect_accessible(tab)
    tab.type(Tokens(SECRET["TRIO_WS_APP_SECRET"]).sign("ann", ["orders"]) + "\n")
    tab.wait_for(says("No events yet"))


def conversed(tab: Tab) -> None:
    tab.type("Ada\n")
    tab.wait_for(says("you are Ada"))
    expect_accessible(tab)
    tab.type("one\ntwo\n")
    tab.wait_for(says("two"))


@pytest.mark.parametrize(
    ("app", "use"),
    [
        ("chat", chatted),
        ("counter", connected),
        ("echo", echoed),
        ("notifications", notified),
        ("rooms", conversed),
        ("ticker", connected),
    ],
)
def test_every_page_is_accessible(browser: Browser, app: str, use: Callable[[Tab], None]) -> None:
    """As it begins, in use, and while the server is away."""
    with serving(app, **SECRET) as server:
        tab = browser.tab(page_of(server))
        expect_accessible(tab)
        use(tab)
        expect_accessible(tab)
        server.stop()
        tab.wait_for(says("reconnecting"))
        expect_accessible(tab)


def test_the_check_finds_what_is_too_faint(browser: Browser) -> None:
    """Grey on grey, a faint border, a faint button: each is found."""
    with serving("echo") as server:
        tab = browser.tab(page_of(server))
        connected(tab)
        expect_accessible(tab)
        for selector, style in (
            (".about", "color: #999"),
            (".card", "border-color: #ccc"),
            ("button", "background: #eee; color: #000"),
        ):
            tab.value(f"document.querySelector({selector!r}).style.cssText = {style!r}")
            with pytest.raises(AssertionError):
                expect_accessible(tab)
            tab.value(f"document.querySelector({selector!r}).style.cssText = ''")
        expect_accessible(tab)


@pytest.mark.parametrize("app", ["chat", "counter", "echo", "notifications", "ticker"])
def test_every_page_can_be_used_when_enlarged(browser: Browser, app: str) -> None:
    """On a screen of 320 by 256, as at 400 %, nothing is wider than it, and no control is covered."""
    with serving(app, **SECRET) as server:
        tab = browser.tab(page_of(server))
        if app == "chat":
            chatted(tab)
        tab.look(width=320, height=256)
        assert tab.value("document.documentElement.scrollWidth") == 320
        assert tab.value(COVERED) == []


def test_a_page_moves_nothing_by_itself(browser: Browser) -> None:
    """There is nothing that those who asked for reduced motion would have to wait out."""
    with serving("chat") as server:
        tab = browser.tab(page_of(server))
        chatted(tab)
        assert tab.value("document.getAnimations().length") == 0
