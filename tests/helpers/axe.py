"""What axe-core, and what it has no rule for, say of a page."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from browser import CHROMIUM, Tab

AXE = Path(__file__).parent.parent / "node_modules" / "axe-core" / "axe.min.js"

needs_axe = pytest.mark.skipif(
    not AXE.exists() and "CI" not in os.environ, reason="needs axe-core: npm install --prefix tests"
)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="needs Chromium: apt-get install chromium"
)

NO_TEXT = "Element content contains only non-text characters"  # a minus sign, says axe, and passes it over
VIOLATIONS = f"""
axe.run().then(({{violations, incomplete}}) => [...violations, ...incomplete].flatMap((rule) => (
  rule.nodes.map((node) => `${{rule.id}}: ${{node.target}}: ${{node.any[0]?.message}}`)
)).filter((text) => !text.endsWith({NO_TEXT!r})))
"""
# The contrast of each border that is seen, inwards and outwards; of a button without one, that of its
# surface, unless its text is underlined as that of a link. Then the contrast of each placeholder, which axe
# leaves out.
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
    } else if (element.tagName === 'BUTTON' && style.textDecorationLine !== 'underline') {
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
