"""A real Chromium, driven over its DevTools protocol: enough of it to use a page as a person would."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from running import Running
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 20.0

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--remote-debugging-port=0",
    "about:blank",
)


BACKGROUND = "getComputedStyle(document.body).backgroundColor"
FITS = """
document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight
"""
TOUCHABLE = """
[...document.querySelectorAll('button')].filter((b) => b.offsetHeight > 0).every((b) => b.offsetHeight >= 44)
"""


class Tab:
    """One page of the browser; everything is awaited in the page and bounded in time."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self.complaints: list[str] = []

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send one DevTools command for this page and return its result."""
        return self._browser.call(method, self._session, **parameters)

    def note(self, message: dict[str, Any]) -> None:
        """Remember what the page complains about on its console."""
        if message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(message["params"]["exceptionDetails"]))
        elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
            self.complaints.append(message["params"]["entry"]["text"])

    def open(self, url: str) -> None:
        """Load the page."""
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Log.enable")
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def close(self) -> None:
        """Close the tab, as a person does."""
        self._browser.forget(self._session)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until the expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.value(expression):
            assert time.monotonic() < deadline, f"never true: {expression}; body: {self.text()}"
            time.sleep(0.02)

    def text(self) -> str:
        """What a person can read on the page."""
        return str(self.value("document.body.innerText"))

    def type(self, text: str) -> None:
        """Type where the keyboard's focus is; a newline is the Enter key."""
        for line, end in zip(text.splitlines(), text.splitlines(keepends=True), strict=True):
            self.call("Input.insertText", text=line)
            if end != line:
                self.key("Enter", "\r")

    def key(self, key: str, text: str = "") -> None:
        """Press one key and let it go."""
        code = {"Enter": 13, "Tab": 9}.get(key, 0)
        pressed = {"key": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **pressed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def look(self, *, dark: bool = False, width: int = 1000, height: int = 700) -> bytes:
        """A screenshot (PNG) of the page as it looks on a screen of this size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


class Browser:
    """A running Chromium."""

    def __init__(self, devtools: ClientConnection) -> None:
        self._numbers = itertools.count(1)
        self._devtools = devtools
        self._tabs: dict[str, Tab] = {}

    def call(self, method: str, session: str | None = None, **parameters: object) -> dict[str, Any]:
        """Send one DevTools command and return its result."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": parameters}
        self._devtools.send(json.dumps(command | ({"sessionId": session} if session else {})))
        while True:
            message = json.loads(self._devtools.recv(timeout=PATIENCE))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]
            if "method" in message and message.get("sessionId") in self._tabs:
                self._tabs[message["sessionId"]].note(message)

    def tab(self, url: str) -> Tab:
        """Open the page in a tab of its own."""
        # Only the second one needs a window of its own, so that the first is not hidden, which costs more.
        target = self.call("Target.createTarget", url="about:blank", newWindow=bool(self._tabs))["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = self._tabs[session] = Tab(self, session)
        tab.open(url)
        return tab

    def tab_of(self, url: str) -> Tab:
        """The tab that is there, or the page in a new one."""
        return next(iter(self._tabs.values()), None) or self.tab(url)

    def close_tabs(self) -> None:
        """Close every tab."""
        for session in list(self._tabs):
            self.forget(session)

    def forget(self, session: str) -> None:
        """Close one tab, if it is open."""
        if self._tabs.pop(session, None) is not None:
            self.call("Page.close", session)


def page_of(server: Running) -> str:
    """The address of the server's page."""
    return f"http://127.0.0.1:{server.port}/"


def says(text: str) -> str:
    """An expression that is true when the page shows the text."""
    return f"document.body.innerText.includes({text!r})"


def join(browser: Browser, server: Running, name: str) -> Tab:
    """A tab in which ``name`` has joined the chat or the rooms, by keyboard alone."""
    tab = browser.tab(page_of(server))
    tab.wait_for("document.activeElement.id === 'name'")
    tab.value("document.activeElement.select()")
    tab.type(f"{name}\n")
    tab.wait_for(says(f"you are {name}"))
    return tab


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Run Chromium with an empty profile in the directory ``profile``; it ends with the block."""
    assert CHROMIUM is not None
    process = subprocess.Popen(
        [CHROMIUM, f"--user-data-dir={profile}", *_FLAGS],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # Its keepalive would use the random numbers that belong to the tests with arbitrary data.
        options: dict[str, Any] = {"max_size": None, "open_timeout": PATIENCE, "ping_interval": None}
        with connect(_devtools_address(process, profile), **options) as devtools:
            yield Browser(devtools)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _devtools_address(process: subprocess.Popen[bytes], profile: Path) -> str:
    note = profile / "DevToolsActivePort"
    deadline = time.monotonic() + PATIENCE
    while not (note.exists() and len(note.read_text().splitlines()) == 2):
        assert process.poll() is None, "Chromium has ended"
        assert time.monotonic() < deadline, "Chromium does not start"
        time.sleep(0.02)
    port, path = note.read_text().splitlines()
    return f"ws://127.0.0.1:{port}{path}"


def expect_good_looks(tab: Tab) -> None:
    """The page follows the colour scheme and fits the screen, wide or narrow, without scrolling it."""
    shots = [tab.look(), tab.look(dark=True)]
    dark = tab.value(BACKGROUND)
    shots.append(tab.look(width=360, height=640))
    assert dark != tab.value(BACKGROUND)
    assert len(set(shots)) == 3
    assert tab.value(FITS)
    assert tab.value(TOUCHABLE)
