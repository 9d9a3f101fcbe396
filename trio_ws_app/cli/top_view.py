"""What ``top`` shows, made of two snapshots of the same processes: rates, processes, connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from rich.console import Console, Group, RenderableType
from rich.text import Text

from ..observability.escaping import escaped
from ..observability.inspection.rows import ConnectionRow
from ..observability.inspection.snapshot import Snapshot
from ..wire.histogram import Distribution
from .columns import Column, Columns
from .top_tasks import tasks_of

_PROCESS = (
    Column("worker", 0, least=6),
    Column("pid", 8),
    Column("conns", 1),
    Column("in/s", 2),
    Column("out/s", 3),
    Column("in B/s", 6),
    Column("out B/s", 7),
    Column("queued", 4),
    Column("dropped", 5),
    Column("failed", 9),
    Column("clean-up p99", 10),
    Column("loop lag p99", 11),
    Column("waiting", 12),
    Column("relieved", 13),
)
_CONNECTION = (
    Column("connection", 0, least=10),
    Column("info", 5, least=12),
    Column("address", 11, least=15),
    Column("path", 7, least=16),
    Column("state", 9),
    Column("age", 10),
    Column("in/s", 1),
    Column("out/s", 2),
    Column("in B/s", 3),
    Column("out B/s", 4),
    Column("in", 14),
    Column("out", 15),
    Column("inbox", 12),
    Column("queued", 6),
    Column("dropped", 8),
    Column("ping", 13),
)
_ALARM = "bold red"


@attrs.frozen
class Rates:
    """Per second, between two snapshots; None if there is only one."""

    messages_in: float | None = None
    messages_out: float | None = None
    bytes_in: float | None = None
    bytes_out: float | None = None


def rates(before: Snapshot | None, now: Snapshot) -> Rates:
    """How fast a process works."""
    if before is None or before.pid != now.pid or now.time <= before.time:
        return Rates()
    return _rates(before.statistics, now.statistics, now.time - before.time)


def connection_rates(before: Snapshot | None, now: Snapshot) -> dict[str, Rates]:
    """How fast each connection of a process works, by its id; those that are new are left out."""
    if before is None or before.pid != now.pid or now.time <= before.time:
        return {}
    older = {row.id: row for row in before.connections}
    seconds = now.time - before.time
    return {row.id: _rates(older[row.id], row, seconds) for row in now.connections if row.id in older}


def _rates(before: object, now: object, seconds: float) -> Rates:
    def rate(name: str) -> float:
        return float(getattr(now, name) - getattr(before, name)) / seconds

    return Rates(*(rate(field.name) for field in attrs.fields(Rates)))


def quantile(values: Distribution, share: float) -> float | None:
    """The bound below which this share of the values lies, or None without values."""
    wanted = share * sum(values.counts)
    if not wanted:
        return None
    below = 0
    for bound, count in zip((*values.bounds, float("inf")), values.counts, strict=True):
        below += count
        if below >= wanted:
            return bound
    return None


def header(snapshots: Sequence[Snapshot]) -> Text:
    """How many processes and connections there are, and what carries topics between them."""
    workers = len(snapshots)
    connections = sum(snapshot.statistics.connections for snapshot in snapshots)
    brokers = {snapshot.broker for snapshot in snapshots if snapshot.broker is not None}
    text = Text(f"{_count(workers, 'worker')}, {_count(connections, 'connection')}", style="bold")
    for name in sorted({broker.name for broker in brokers}):
        text.append(f", broker {escaped(name)}")
    for problem in sorted({broker.problem for broker in brokers if broker.problem is not None}):
        text.append(f": {escaped(problem)}", _ALARM)
    return text


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def process_table(snapshots: Sequence[Snapshot], before: Mapping[int, Snapshot]) -> Columns:
    """One line a process."""
    return Columns(
        _PROCESS,
        [_process_cells(snapshot, rates(before.get(snapshot.pid), snapshot)) for snapshot in snapshots],
    )


def _process_cells(snapshot: Snapshot, speed: Rates) -> list[str | tuple[str, str]]:
    counts = snapshot.statistics
    lag = None if snapshot.loop_lag is None else quantile(snapshot.loop_lag, 0.99)
    return [
        escaped(f"{snapshot.worker}{' draining' if snapshot.draining else ''}"),
        str(snapshot.pid),
        str(counts.connections),
        number(speed.messages_in),
        number(speed.messages_out),
        size(speed.bytes_in),
        size(speed.bytes_out),
        _alarming(size(counts.queued), counts.queued > 0),
        _alarming(str(counts.dropped), counts.dropped > 0),
        _alarming(str(counts.failed), counts.failed > 0),
        at_most(quantile(counts.cancel_latency, 0.99)),
        at_most(lag),
        size(counts.waiting),
        _alarming(str(counts.relieved), counts.relieved > 0),
    ]


def connection_table(
    rows: Sequence[ConnectionRow],
    chosen: str | None = None,
    speeds: Mapping[str, Rates] | None = None,
) -> Columns:
    """One line a connection; the chosen one is marked, a slow one is red. ``speeds`` are by id."""
    cells = [_connection_cells(row, (speeds or {}).get(row.id, Rates())) for row in rows]
    marked = next((number for number, row in enumerate(rows) if row.id == chosen), None)
    return Columns(_CONNECTION, cells, marked)


def _connection_cells(row: ConnectionRow, speed: Rates) -> list[str | tuple[str, str]]:
    return [
        escaped(row.id),
        escaped(row.info),
        escaped(row.remote),
        escaped(row.path),
        _alarming("slow", True) if row.blocked else escaped(row.state),
        duration(row.age),
        number(speed.messages_in),
        number(speed.messages_out),
        size(speed.bytes_in),
        size(speed.bytes_out),
        str(row.messages_in),
        str(row.messages_out),
        _alarming(str(row.inbox), row.inbox > 0),
        _alarming(size(row.queued), row.blocked or row.queued > 0),
        _alarming(str(row.dropped), row.dropped > 0),
        duration(row.latency),
    ]


def facts(row: ConnectionRow, worker: str) -> Text:
    """One connection in one line, also what the table had no room for."""
    parts = [
        row.id,
        row.info,
        row.remote,
        row.path,
        f"worker {worker}",
        f"{'slow' if row.blocked else row.state} for {duration(row.age)}",
        f"{row.messages_in} in, {row.messages_out} out",
    ]
    text = "  ".join(escaped(part) for part in parts if part)
    return Text(text, style="bold", no_wrap=True, overflow="ellipsis")


def print_once(snapshots: Sequence[Snapshot]) -> None:
    """Everything that the snapshots hold, for a terminal or a pipe."""
    parts: list[RenderableType] = [header(snapshots), process_table(snapshots, {})]
    rows = [row for snapshot in snapshots for row in snapshot.connections]
    if rows:
        parts += ["", connection_table(rows)]
    parts += [part for snapshot in snapshots if snapshot.tasks for part in ("", tasks_of(snapshot))]
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    console.print(Group(*parts))


def number(value: float | None) -> str:
    """``1.2 k``; a dash for what is not known."""
    return "-" if value is None else _scaled(value, 1000, ("", " k", " M", " G"))


def size(value: float | None) -> str:
    """``1.2 MiB``; a dash for what is not known."""
    return "-" if value is None else _scaled(value, 1024, (" B", " KiB", " MiB", " GiB"))


def _scaled(value: float, base: int, units: tuple[str, ...]) -> str:
    for unit in units[:-1]:
        if value < base:
            return f"{value:.0f}{unit}" if unit == units[0] else f"{value:.1f}{unit}"
        value /= base
    return f"{value:.1f}{units[-1]}"


def duration(seconds: float | None) -> str:
    """``85 ms``, ``12 s``, ``3 min``, ``2.5 h``; a dash for what is not known."""
    if seconds is None:
        return "-"
    for limit, factor, unit in ((1, 1000, "ms"), (100, 1, "s"), (6000, 1 / 60, "min")):
        if seconds < limit:
            return f"{seconds * factor:.0f} {unit}"
    return f"{seconds / 3600:.1f} h"


def at_most(bound: float | None) -> str:
    """A bound of a histogram's bucket: ``≤ 5 ms``."""
    if bound is None:
        return "-"
    return "> 30 s" if bound == float("inf") else f"≤ {bound * 1000:g} ms" if bound < 1 else f"≤ {bound:g} s"


def _alarming(text: str, alarming: bool) -> tuple[str, str]:
    return (text, _ALARM if alarming else "")
