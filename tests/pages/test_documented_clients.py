"""The pages and the programs for Node.js that the READMEs tell to write talk to what they tell to serve."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe import needs_chromium
from browser import Browser, page_of
from centrifuge_clients import PACKAGE, needs
from running import PATIENCE, Running, serving

PACKAGES = Path(__file__).parent.parent.parent / "trio_ws_app"
CHANNELS = (PACKAGES / "channels" / "README.md").read_text()
PAGES = (PACKAGES / "pages" / "README.md").read_text()
ITEMS = "[...document.querySelectorAll('li')].map((item) => item.textContent).join()"


def written(text: str, language: str, words: str) -> str:
    """The only code block in the language that has these words."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if words in block]
    return block


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The reader's folder, with ``talk.py``, its page, and what npm has installed."""
    (tmp_path / "talk.py").write_text(written(CHANNELS, "python", "channels = ws.Channels()"))
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "index.html").write_text(written(PAGES, "html", "talk.js"))
    (tmp_path / "public" / "talk.js").write_text(written(PAGES, "js", "createElement"))
    (tmp_path / "node_modules").symlink_to(PACKAGE.parent)
    return tmp_path


@contextmanager
def node(folder: Path, code: str, server: Running) -> Iterator[Iterator[str]]:
    """The lines that a program for Node.js prints, until the block ends."""
    assert code.count("ws://127.0.0.1:8765") == 1
    (folder / "program.mjs").write_text(code.replace("ws://127.0.0.1:8765", server.url))
    with subprocess.Popen(["node", "program.mjs"], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        too_late = threading.Timer(PATIENCE, process.kill)
        too_late.start()
        try:
            yield (line.strip() for line in process.stdout)
        finally:
            too_late.cancel()
            process.kill()


@needs("node")
@needs_chromium
def test_a_page_and_a_program_talk_to_each_other(folder: Path, browser: Browser) -> None:
    """Each sees what the other says, and the call has its answer."""
    program = written(CHANNELS, "js", "client.rpc")
    with serving("talk:application", "--static", "public", cwd=folder) as server:
        tab = browser.tab(page_of(server))
        tab.wait_for(f"{ITEMS} === 'Ada: hello'")
        with node(folder, program, server) as lines:
            assert {next(lines, None) for _ in range(2)} == {"Ada hello", "6"}
            tab.wait_for(f"{ITEMS} === 'Ada: hello,Ada: hello'")
        assert tab.complaints == []


@needs("node")
def test_a_program_talks_in_the_lobby(folder: Path) -> None:
    """Of the built-in rooms."""
    with serving("rooms") as server, node(folder, written(PAGES, "js", "Grace"), server) as lines:
        assert next(lines, None) == "Grace hello from node"
