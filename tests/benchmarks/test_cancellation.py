"""``python -m benchmarks cancellation``: what it makes of what servers do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.cancellation_events import Events, latency
from benchmarks.cancellation_plot import cell, label
from benchmarks.cancellation_scenarios import STOP_LIMIT
from benchmarks.figures import Results
from benchmarks.frames import frames
from benchmarks.servers.pure import is_compiled

JOURNAL = """\
10.000000 /0 heard
10.000000 /1 heard
10.000000 /2 heard
12.010000 /0 consumer
12.020000 /0 producer
12.021000 /0 gone
12.010000 /1 gone
12.030000 /1 consumer
12.031000 /1 producer
12.050000 /2 producer
12.060000 asyncio error
"""


@pytest.fixture
def events(tmp_path: Path) -> Events:
    path = tmp_path / "journal"
    path.write_text(JOURNAL)
    return Events.read(path)


def test_handlers_that_have_not_cleaned_up_are_counted(events: Events) -> None:
    """Two sides a connection; one of the six is missing."""
    left = dict.fromkeys(("/0", "/1", "/2"), 12.0)
    assert events.heard() == 3
    assert events.survivors(left) == 1
    assert events.errors == 1
    assert not events.all_clean(left)
    assert events.all_clean({"/0": 12.0})


def test_the_time_runs_until_both_sides_are_clean(events: Events) -> None:
    """A connection that something else ended before its time does not count."""
    assert events.delays({"/0": 12.0, "/1": 12.0, "/2": 12.0}) == pytest.approx([0.02, 0.031])
    assert events.delays({"/0": 12.5}) == []
    assert latency([]) == {}
    assert latency([0.01, 0.02, 0.05]) == {"p50_ms": 20, "p99_ms": 50}


def test_a_registry_that_told_too_early_is_noticed(events: Events) -> None:
    """/1 was gone before its clean-up was done."""
    assert events.told_in_time({"/0": 12.0}) == 1
    assert events.told_in_time({"/0": 12.0, "/1": 12.0}) == 0.5
    assert events.told_in_time({"/2": 12.0}) is None


def test_frames_are_told_from_what_is_none() -> None:
    """Whole frames are taken, half ones stay, and the middle of a payload is an error."""
    data = bytearray(b"\x81\x05hello\x82\x7e\x01\x00" + bytes(256) + b"\x88\x02\x03")
    assert list(frames(data)) == [(1, b"hello"), (2, bytes(256))]
    assert data == b"\x88\x02\x03"
    with pytest.raises(ValueError, match="no frame"):
        list(frames(bytearray(b"\x71\x05hello")))


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"survivors": 0, "p99_ms": 21.2, "told": 1, "survived": 1}, "clean in 21 ms"),
        ({"survivors": 0, "p99_ms": 21.2, "told": 0, "survived": 1}, "told before"),
        ({"survivors": 300, "told": 0, "survived": 1}, "300 alive"),
        ({"survivors": 0, "p99_ms": 9, "survived": 0}, "server died"),
        ({"survivors": 0, "end_s": STOP_LIMIT + 0.01}, "still there"),
        ({"survivors": 0, "end_s": 5.1}, "ends in 5.1 s"),
        ({"survivors": 0, "gone_s": 2.0}, "gone in 2.0 s"),
        ({"well_formed": 0, "survived": 1}, "frame torn"),
    ],
)
def test_a_cell_says_the_worst(figures: dict[str, float], words: str) -> None:
    """Each field of the slide has one statement."""
    results = Results()
    results.add("row", "peer", figures)
    assert words in cell("row", "peer", results).text


def test_the_slide_names_the_project() -> None:
    """Its readers do not know who "ours" is."""
    assert [label("ours"), label("trio-websocket")] == ["trio_ws_app", "trio-websocket"]


@pytest.mark.skipif(not is_compiled("trio_ws_app"), reason="nothing is compiled here")
@pytest.mark.slow
def test_a_small_run(tmp_path: Path) -> None:
    """Every scenario once, with few connections: ours leaves nothing, and the files are written."""
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    report, plot = tmp_path / "cancellation.json", tmp_path / "cancellation.svg"
    arguments = ["cancellation", "--only", "ours", "--row", "close,torn,storm", "--connections", "5"]
    arguments += ["--storm", "5", "--rounds", "1", "--patience", "0"]
    arguments += ["--json", str(report), "--plot", str(plot)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "the client closes, 5 connections" in result.output
    found = {entry["row"]: entry["medians"] for entry in json.loads(report.read_text())["results"]}
    assert all(figures["survivors"] == 0 for row, figures in found.items() if row != "torn")
    assert found["torn"]["well_formed"] == 1
    assert found["close"]["told"] == 1
    assert plot.read_text().startswith("<?xml")
    assert plot.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
