"""The comparison with ``expected.json`` notices what got worse."""

from __future__ import annotations

import json

import pytest

from tests.autobahn.__main__ import HERE, problems

EXPECTED = json.loads((HERE / "expected.json").read_text())


def verdict(behavior: str, close: str = "OK") -> dict[str, str]:
    return {"behavior": behavior, "behaviorClose": close}


@pytest.mark.parametrize(
    ("case", "found"),
    [
        ("1.1.1", verdict("OK")),
        ("3.2", verdict("NON-STRICT")),
        ("7.1.6", verdict("INFORMATIONAL", "INFORMATIONAL")),
    ],
)
def test_what_is_expected_is_no_problem(case: str, found: dict[str, str]) -> None:
    """Passing is fine, and so are the listed cases in the listed way."""
    assert not list(problems({case: found}, EXPECTED))


@pytest.mark.parametrize(
    ("case", "found"),
    [
        ("1.1.1", verdict("FAILED")),
        ("1.1.1", verdict("OK", "WRONG CODE")),
        ("1.1.1", verdict("OK", "UNCLEAN")),
        ("12.1.1", verdict("UNIMPLEMENTED")),
        ("1.1.1", verdict("NON-STRICT")),
        ("1.1.1", verdict("INFORMATIONAL")),
        ("3.2", verdict("FAILED")),
        ("7.1.6", verdict("FAILED")),
        ("1.1.1", verdict("SOMETHING NEW")),
    ],
)
def test_what_is_worse_is_a_problem(case: str, found: dict[str, str]) -> None:
    """Any other verdict on a case is named."""
    assert any(case in problem for problem in problems({case: found}, EXPECTED))


def test_too_many_loose_cases_are_a_problem() -> None:
    """Each listed case may be non-strict, but not all of them at once."""
    results = {case: verdict("NON-STRICT") for case in EXPECTED["non-strict"]}
    assert list(problems(results, EXPECTED)) == ["12 cases are non-strict, at most 11 may be"]
