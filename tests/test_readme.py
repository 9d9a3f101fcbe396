"""What the README says is what happens."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def fenced(language: str) -> list[str]:
    """The README's code blocks in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def test_ci_runs_the_command_that_the_readme_gives_for_the_tests() -> None:
    """A reader who copies the test command runs what the continuous integration runs."""
    (command,) = (block for block in fenced("sh") if "pytest" in block)
    assert command in (ROOT / ".ci" / "run").read_text()
