"""The table of promises and lines in tests/README.md is about the code as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
sys.path.insert(0, str(TESTS))

import mutants  # noqa: E402


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: f"{mutant.promise}-{mutant.file}")
def test_a_line_that_keeps_a_promise_is_there_once(mutant: mutants.Mutant) -> None:
    """Where the code was rewritten, the list in mutants.toml must follow, and be tried again."""
    text = (mutants.ROOT / mutants.PACKAGE / mutant.file).read_text()
    assert text.count(mutant.line) == 1
    assert all((TESTS / name).exists() for name in mutant.tests)


def test_every_promise_is_in_the_list() -> None:
    """G1 to G15 each have a line whose loss is noticed."""
    assert {mutant.promise for mutant in mutants.MUTANTS} == {f"G{number}" for number in range(1, 16)}


def test_the_table_is_the_list() -> None:
    """``python tests/mutants.py --table`` has been run since the list changed."""
    document = (TESTS / "README.md").read_text()
    assert document == mutants.document_with_table(document)
