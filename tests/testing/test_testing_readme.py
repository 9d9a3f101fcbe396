"""What the testing kit's README shows is copied into an empty folder, and passes there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from running import PATIENCE, environment

import trio_ws_app.testing

README = (Path(trio_ws_app.testing.__file__).parent / "README.md").read_text()
RUN = dict(re.findall(r"<!-- run: (\S+) -->\n```python\n(.*?)```", README, flags=re.DOTALL))


@pytest.mark.parametrize("name", ["testing", "testing-blocks"])
def test_a_copied_block_passes(name: str, tmp_path: Path) -> None:
    """With pytest and pytest-trio alone, without a configuration."""
    assert len(RUN) == README.count("```python")
    (tmp_path / "test_hello.py").write_text(RUN[name])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=3 * PATIENCE,
    )  # fmt: skip
    assert re.search(r"^[12] passed", done.stdout, flags=re.MULTILINE), done.stdout


def test_the_readme_example_is_on_virtual_time(tmp_path: Path) -> None:
    """An hour in its handler takes no time."""
    text = RUN["testing"].replace(
        "    name = await connection.receive()\n",
        "    await trio.sleep(3600)\n    name = await connection.receive()\n",
    )
    (tmp_path / "test_hello.py").write_text("import trio\n" + text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not survives"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=3 * PATIENCE,
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout
