"""The screen of ``trio-ws-app top``: what fits, what is left out, and how that is said."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from trio_ws_app.cli.columns import Column, Columns
from trio_ws_app.cli.top_live import View
from trio_ws_app.errors import UsageError
from trio_ws_app.observability.inspection.rows import ConnectionRow
from trio_ws_app.observability.inspection.snapshot import BrokerState, Query, Snapshot
from trio_ws_app.server.statistics import Statistics
from trio_ws_app.server.tasks import TaskNode
from trio_ws_app.wire.histogram import Distribution

COLUMNS = [Column("name", 0, least=6), Column("figure", 1), Column("text", 2, least=8), Column("more", 3)]
ROWS = [["someone", "12", "a text of twenty one", "x"], ["\u4e2d\u4e2d\u4e2d", "3", "short", "yyyy"]]


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (60, ["name     figure  text                  more", "someone      12  a text of twenty one     x"]),
        (40, ["name     figure  text               more", "someone      12  a text of twenty…     x"]),
        (29, ["name     figure  text        ", "someone      12  a text of t…"]),
        (17, ["name     figure", "someone      12"]),
        (9, ["name   ", "someone"]),
        (6, ["name  ", "someo…"]),
    ],
)
def test_columns_are_left_out_before_they_are_cut_short(width: int, lines: list[str]) -> None:
    """Text gives way down to what still says something; then the least important column goes."""
    console = Console(width=width)
    drawn = lines_of(console, Columns(COLUMNS, ROWS))
    assert drawn[:2] == lines
    assert drawn[2].startswith("\u4e2d\u4e2d")
    assert len({cell_len(line) for line in drawn}) == 1


def test_a_column_without_any_text_is_left_out() -> None:
    """No room is kept for what no row has."""
    console = Console(width=60)
    heading, _ = lines_of(console, Columns(COLUMNS, [["a", "1", "", "x"]]))
    assert "text" not in heading


NONE = Distribution((1.0,), (0, 0), 0.0)


def statistics(connections: int) -> Statistics:
    return Statistics(
        connections=connections, accepted=0, refused={}, closed={}, failed=0, messages_in=0, messages_out=0,
        bytes_in=0, bytes_out=0, dropped=0, drops={}, queued=0, ping_latency=NONE, cancel_latency=NONE,
    )  # fmt: skip


def snapshots(time: float = 1.0, connections: int = 60, workers: int = 2) -> list[Snapshot]:
    """What the workers of a made-up server answer at that time."""
    return [snapshot(worker, time, connections) for worker in range(1, workers + 1)]


def snapshot(worker: int, time: float, connections: int) -> Snapshot:
    rows = [
        ConnectionRow(
            id=f"{worker}-{number}", remote=f"127.0.0.1:{number}", path="/a/path", state="open", age=1,
            silent=1, messages_in=int(time * 10), messages_out=int(time * 20), bytes_in=int(time * 2048),
            bytes_out=int(time * 4096), inbox=0, queued=0, dropped=0, blocked=False, latency=None,
            info=f"user {number}",
        )
        for number in range(connections)
    ]  # fmt: skip
    return Snapshot(
        worker=str(worker),
        pid=worker,
        time=time,
        draining=False,
        statistics=statistics(connections),
        loop_lag=None,
        connections=rows,
        tasks=TaskNode("<init>", None, [TaskNode(row.id, None, [], "waits for a message") for row in rows]),
        matching=connections,
        broker=BrokerState("redis://h:1", "it is away"),
    )


def lines_of(console: Console, shown: RenderableType) -> list[str]:
    lines = console.render_lines(shown, pad=False)
    return ["".join(part.text for part in line) for line in lines]


def screen(view: View, width: int, height: int) -> list[str]:
    """The lines that the view draws on a screen of this size."""
    console = Console(width=width, height=height)
    return lines_of(console, view.draw(console))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 20), (200, 60)])
def test_the_live_view_uses_the_whole_screen(width: int, height: int) -> None:
    """As many lines as there are, none too long; all connections are shown, or how many more there are."""
    for connections in (0, 1, 5, 20, 60, 200):
        lines = screen(View(Query(), snapshots=snapshots(connections=connections)), width, height)
        assert len(lines) == height
        assert max(map(cell_len, lines)) <= width
        assert lines[-1].startswith("sort: queued")
        shown = sum(line.startswith(("1-", "2-")) and "waits" not in line for line in lines)
        more = sum(int(line.removesuffix(" more")) for line in lines if line.endswith(" more"))
        assert shown - (connections > 0) + more == 2 * connections  # one line has what the table leaves out
        assert connections < 60 or shown >= height // 2 - 2


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 20)])
def test_all_tasks_use_the_whole_screen(width: int, height: int) -> None:
    """Scrolled line by line; the last line says how many there are below."""
    view = View(Query(), snapshots=snapshots(), all_tasks=True)
    lines = screen(view, width, height)
    assert (len(lines), lines[-2][-5:]) == (height, " more")
    view.press("\x1b[6~")
    below = screen(view, width, height)
    assert int(lines[-2].removesuffix(" more")) - int(below[-2].removesuffix(" more")) == 10
    view.chosen = 1000
    assert not screen(view, width, height)[-2].endswith(" more")


def test_a_tiny_screen_is_used_as_well_as_possible() -> None:
    """What does not fit is left out from below; the keys stay."""
    for tasks in (False, True):
        lines = screen(View(Query(), snapshots=snapshots(), all_tasks=tasks), 20, 5)
        assert (len(lines), lines[-1][:5]) == (5, "sort:")
    assert len(screen(View(Query(), snapshots=snapshots(connections=200)), 5, 50)) == 50


def test_many_workers_leave_room_for_connections() -> None:
    """Not more than a quarter of the screen is for them."""
    lines = screen(View(Query(), snapshots=snapshots(workers=30)), 80, 24)
    assert "25 more" in lines
    assert sum(line.startswith(("1-", "10-")) for line in lines) >= 8


def test_the_live_view_shows_rates_info_and_broker() -> None:
    """Messages and bytes a second of each connection, what the application knows of it, and the broker."""
    view = View(Query(), snapshots=snapshots(1.0))
    view.take(snapshots(2.0))
    lines = screen(view, 200, 60)
    assert lines[0] == "2 workers, 120 connections, broker redis://h:1: it is away"
    (row,) = [line for line in lines if line.startswith("1-7 ")]
    assert row.split()[:5] == ["1-7", "user", "7", "127.0.0.1:7", "/a/path"]
    assert row.split()[8:14] == ["10", "20", "2.0", "KiB", "4.0", "KiB"]


def test_rates_are_of_a_time_that_is_long_enough() -> None:
    """A key that is pressed asks anew at once; what was seen a moment ago is no ground for a rate."""
    view = View(Query())
    for time in (1.0, 2.0, 2.1):
        view.take(snapshots(time))
    assert {one.time for one in view.before.values()} == {1.0}


def test_what_was_chosen_stays_chosen() -> None:
    """Also when the order changes; without a choice the first row is shown."""
    view = View(Query(sort="id"), snapshots=snapshots(connections=3, workers=1))
    assert view.press("j")
    assert [line for line in screen(view, 80, 24) if line.startswith("1-1  ")]
    view.take(snapshots(connections=2, workers=2)[::-1])
    assert view.rows[view.chosen].id == "1-1"
    assert view.press("s")
    view.take(snapshots(connections=0))
    assert screen(view, 80, 24)


def test_places_are_looked_for_at_every_turn() -> None:
    """A worker that comes later is seen; one that has no socket, or none that answers, is said to be away."""
    view = View(Query(), snapshots=snapshots())
    places: list[list[str]] = [[], ["/nowhere"]]

    def find() -> list[str]:
        found = places.pop(0)
        if not found:
            raise UsageError("there is no control socket")
        return found

    view.update(find, None)
    assert screen(view, 80, 24)[-1] == "there is no control socket"
    view.update(find, None)
    assert screen(view, 80, 24)[-1].startswith("there is no control socket /nowhere")
    assert view.snapshots == []
