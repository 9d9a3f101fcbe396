"""What ``top`` shows, made of two snapshots of the same processes: rates, processes, connections."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import attrs
from rich.console import Console, Group, RenderableType
from rich.text import Text

from ..observability.escaping import escaped
from ..observability.inspection.rows import ConnectionRow
from ..observability.inspection.snapshot import Snapshot
from ..wire.histogram import Distribution
from .columns import Column, Columns
from .top_tasks import tasks_of

_ALARM = "bold red"


@attrs.frozen
class Rates:
    """Per second, between two snapshots; None if there is only one."""

    messages_in: float | None = None
    messages_out: float | None = None
    bytes_in: float | None = None
    bytes_out: float | None = None


_UNKNOWN = Rates()


def rates(before: Snapshot | None, now: Snapshot) -> dict[int | str, Rates]:
    """How fast a process works, by its pid, and each of its connections, by its id, but for new ones."""
    if before is None or now.time <= before.time:
        return {}
    seconds = now.time - before.time
    found: dict[int | str, Rates] = {now.pid: _rates(before.statistics, now.statistics, seconds)}
    older = {row.id: row for row in before.connections}
    for row in now.connections:
        if row.id in older:
            found[row.id] = _rates(older[row.id], row, seconds)
    return found


def _rates(before: object, now: object, seconds: float) -> Rates:
    names = [field.name for field in attrs.fields(Rates)]
    return Rates(*((getattr(now, name) - getattr(before, name)) / seconds for name in names))


def quantile(values: Distribution, share: float) -> float | None:
    """The bound below which this share of the values lies, or None without values."""
    below = list(accumulate(values.counts))
    if not below[-1]:
        return None
    return (*values.bounds, float("inf"))[bisect_left(below, share * below[-1])]


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


def _alarming(text: str, alarming: bool) -> Text:
    return Text(text, _ALARM if alarming else "")


def _if_any(count: int) -> Text:
    """A count that is in the eye unless it is 0."""
    return _alarming(str(count), count > 0)


def _p99(values: Distribution | None) -> str:
    return at_most(None if values is None else quantile(values, 0.99))


_PROCESS: Sequence[tuple[Column, Callable[[Snapshot, Rates], str | Text]]] = (
    (Column("worker", 0, least=6), lambda one, _: escaped(f"{one.worker}{' draining' * one.draining}")),
    (Column("pid", 8), lambda one, _: str(one.pid)),
    (Column("conns", 1), lambda one, _: str(one.statistics.connections)),
    (Column("in/s", 2), lambda _, speed: number(speed.messages_in)),
    (Column("out/s", 3), lambda _, speed: number(speed.messages_out)),
    (Column("in B/s", 6), lambda _, speed: size(speed.bytes_in)),
    (Column("out B/s", 7), lambda _, speed: size(speed.bytes_out)),
    (Column("queued", 4), lambda one, _: _alarming(size(one.statistics.queued), one.statistics.queued > 0)),
    (Column("dropped", 5), lambda one, _: _if_any(one.statistics.dropped)),
    (Column("failed", 9), lambda one, _: _if_any(one.statistics.failed)),
    (Column("clean-up p99", 10), lambda one, _: _p99(one.statistics.cancel_latency)),
    (Column("loop lag p99", 11), lambda one, _: _p99(one.loop_lag)),
    (Column("waiting", 12), lambda one, _: size(one.statistics.waiting)),
    (Column("relieved", 13), lambda one, _: _if_any(one.statistics.relieved)),
)
_CONNECTION: Sequence[tuple[Column, Callable[[ConnectionRow, Rates], str | Text]]] = (
    (Column("connection", 0, least=10), lambda row, _: escaped(row.id)),
    (Column("info", 5, least=12), lambda row, _: escaped(row.info)),
    (Column("address", 11, least=15), lambda row, _: escaped(row.remote)),
    (Column("path", 7, least=16), lambda row, _: escaped(row.path)),
    (Column("state", 9), lambda row, _: _alarming("slow", True) if row.blocked else escaped(row.state)),
    (Column("age", 10), lambda row, _: duration(row.age)),
    (Column("in/s", 1), lambda _, speed: number(speed.messages_in)),
    (Column("out/s", 2), lambda _, speed: number(speed.messages_out)),
    (Column("in B/s", 3), lambda _, speed: size(speed.bytes_in)),
    (Column("out B/s", 4), lambda _, speed: size(speed.bytes_out)),
    (Column("in", 14), lambda row, _: str(row.messages_in)),
    (Column("out", 15), lambda row, _: str(row.messages_out)),
    (Column("inbox", 12), lambda row, _: _if_any(row.inbox)),
    (Column("queued", 6), lambda row, _: _alarming(size(row.queued), row.blocked or row.queued > 0)),
    (Column("dropped", 8), lambda row, _: _if_any(row.dropped)),
    (Column("ping", 13), lambda row, _: duration(row.latency)),
)


def process_table(snapshots: Sequence[Snapshot], speeds: Mapping[int | str, Rates]) -> Columns:
    """One line a process."""
    columns, cells = zip(*_PROCESS, strict=True)
    known = [(one, speeds.get(one.pid, _UNKNOWN)) for one in snapshots]
    return Columns(columns, [[cell(*row) for cell in cells] for row in known])


def connection_table(
    rows: Sequence[ConnectionRow], speeds: Mapping[int | str, Rates], chosen: str | None = None
) -> Columns:
    """One line a connection; the chosen one is marked, a slow one is red."""
    columns, cells = zip(*_CONNECTION, strict=True)
    known = [(row, speeds.get(row.id, _UNKNOWN)) for row in rows]
    marked = next((number for number, row in enumerate(rows) if row.id == chosen), None)
    return Columns(columns, [[cell(*row) for cell in cells] for row in known], marked)


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
        parts += ["", connection_table(rows, {})]
    parts += [part for snapshot in snapshots if snapshot.tasks for part in ("", tasks_of(snapshot))]
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    console.print(Group(*parts))
