"""The pages for eyes, keyboards and screen readers of all kinds: axe-core, and what it has no rule for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, Tab, page_of, says
from running import serving

from trio_ws_app.apps.notifications import Tokens

AXE = Path(__file__).parent.parent / "node_modules" / "axe-core" / "axe.min.js"

pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None and "CI" not in os.environ, reason="needs Chromium: apt-get install chromium"
    ),
    pytest.mark.skipif(
        not AXE.exists() and "CI" not in os.environ, reason="needs axe-core: npm install --prefix tests"
    ),
]

SECRET = {"TRIO_WS_APP_SECRET": "a long random text"}
NO_TEXT = "Element content contains only non-text characters"  # a minus sign, says axe, and passes it over
VIOLATIONS = f"""
axe.run().then(({{violations, incomplete}}) => [...violations, ...incomplete].flatMap((rule) => (
  rule.nodes.map((node) => `${{rule.id}}: ${{node.target}}: ${{node.any[0]?.message}}`)
)).filter((text) => !text.endsWith({NO_TEXT!r})))
"""
# The contrast of each border that is seen, inwards and outwards; of a button without one, that of its
# surface. Then the contrast of each placeholder, which axe leaves out.
FAINT = """
(() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const opaque = (color) => (channels(color)[3] ?? 1) === 1;
  const light = (color) => {
    const [red, green, blue] = channels(color).map((value) => value / 255)
      .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05;
  };
  const contrast = (one, other) => Math.max(light(one) / light(other), light(other) / light(one));
  const ground = (element) => {
    while (!opaque(getComputedStyle(element).backgroundColor)) element = element.parentElement;
    return getComputedStyle(element).backgroundColor;
  };
  const faint = [];
  const expect = (least, element, what, one, other) => {
    const found = contrast(one, other);
    if (found < least) faint.push(`${element.tagName}.${element.className} ${what}: ${found}`);
  };
  let seen = 0;
  for (const element of document.querySelectorAll('body *')) {
    if (!element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const bordered = parseFloat(style.borderTopWidth) > 0 && opaque(style.borderTopColor);
    if (bordered) {
      seen += 1;
      expect(3, element, 'border outside', style.borderTopColor, ground(element.parentElement));
      expect(3, element, 'border inside', style.borderTopColor, ground(element));
    } else if (element.tagName === 'BUTTON') {
      seen += 1;
      expect(3, element, 'button', ground(element), ground(element.parentElement));
    }
    if (element.placeholder) {
      const placeholder = getComputedStyle(element, '::placeholder');
      expect(4.5, element, 'placeholder', placeholder.color, ground(element));
      if (placeholder.opacity !== '1') faint.push('a placeholder that is not opaque');
    }
  }
  return seen ? faint : ['nothing was looked at'];
})()
"""


def expect_accessible(tab: Tab) -> None:
    """No rule of axe is broken, and nothing is too faint: light and dark, wide and narrow."""
    tab.value(f"window.axe ? 0 : eval({json.dumps(AXE.read_text())}), 0")
    for dark, width in ((False, 1000), (True, 1000), (False, 360)):
        tab.look(dark=dark, width=width)
        assert tab.value(VIOLATIONS) == []
        assert tab.value(FAINT) == []


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


@pytest.mark.parametrize(
    ("app", "use"),
    [
        ("chat", chatted),
        ("counter", connected),
        ("echo", echoed),
        ("notifications", notified),
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
