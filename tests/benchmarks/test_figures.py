"""Medians, ratios and targets."""

from __future__ import annotations

from benchmarks.figures import Failure, Results, Target, judge, ratio


def results(**rates: list[float]) -> Results:
    """Rounds in a row called "row", a list for each contender."""
    found = Results()
    for contender, values in rates.items():
        for value in values:
            found.add("row", contender, {"rate": value})
    return found


def test_the_median_is_the_middle_round_or_between_the_two() -> None:
    """One extreme round does not move the result."""
    found = results(odd=[1, 900, 3], even=[1, 2, 4, 900])
    assert found.median("row", "odd", "rate") == 3
    assert found.median("row", "even", "rate") == 3


def test_a_contender_with_a_failed_round_has_no_median() -> None:
    """The rounds that went well must not hide the one that did not."""
    found = results(shaky=[5, 5])
    found.add("row", "shaky", Failure("it ended by itself"))
    assert found.median("row", "shaky", "rate") is None
    assert found.medians("row", "shaky") == {}
    assert found.failure("row", "shaky") == "it ended by itself"


def test_a_figure_that_was_not_measured_has_no_median() -> None:
    """Neither an unknown contender nor an unknown figure is an error."""
    found = results(ours=[5])
    assert found.median("row", "unknown", "rate") is None
    assert found.median("row", "ours", "memory") is None


def test_what_has_to_be_so_always_is_told_by_its_worst_round() -> None:
    """A server that died in one round of three has not survived."""
    found = Results()
    for survived, errors in ((1, 0), (0, 7), (1, 0)):
        found.add("row", "shaky", {"survived": survived, "errors": errors})
    assert found.medians("row", "shaky") == {"survived": 0, "errors": 7}


def test_a_figure_that_some_rounds_lack_is_that_of_the_others() -> None:
    """What died before its time was taken still has the times of its other rounds, when they are the most."""
    found = results(shaky=[5, 7])
    found.add("row", "shaky", {"survived": 0})
    assert found.median("row", "shaky", "rate") == 6
    found.add("row", "shaky", {"survived": 0})
    assert found.median("row", "shaky", "rate") is None


def test_a_ratio_needs_both_sides() -> None:
    """Nothing is compared with nothing."""
    assert ratio(6, 4) == 1.5
    assert ratio(None, 4) is None
    assert ratio(6, None) is None
    assert ratio(6, 0) is None


def test_a_target_is_judged_against_the_best_peer() -> None:
    """Being faster than the second fastest is not enough."""
    found = results(ours=[120], slow=[50], fast=[100])
    (verdict,) = judge([Target("row", "rate", "ours", 1.3, ["slow", "fast"])], found)
    assert verdict.peer == "fast"
    assert verdict.measured == 1.2
    assert verdict.reached is False
    assert str(verdict) == "target  row ours rate >= 1.3 x fast  measured 1.20  not ok"


def test_where_less_is_better_the_best_peer_is_the_smallest() -> None:
    """Memory and latency count the other way round."""
    found = results(ours=[70], big=[200], small=[100])
    (verdict,) = judge([Target("row", "rate", "ours", 0.75, ["big", "small"], less_is_better=True)], found)
    assert verdict.peer == "small"
    assert verdict.reached is True
    assert str(verdict).endswith("<= 0.75 x small  measured 0.70  ok")


def test_a_target_without_peers_is_a_figure() -> None:
    """Some limits are absolute."""
    (verdict,) = judge([Target("row", "rate", "ours", 10, less_is_better=True)], results(ours=[10.5]))
    assert verdict.reached is False
    assert str(verdict) == "target  row ours rate <= 10  measured 10.50  not ok"


def test_a_target_is_not_judged_without_both_sides() -> None:
    """A run with --only says so instead of guessing."""
    found = results(ours=[120])
    for target in (Target("row", "rate", "ours", 1, ["peer"]), Target("row", "rate", "unknown", 1)):
        (verdict,) = judge([target], found)
        assert verdict.reached is None
        assert str(verdict).endswith("not measured")
