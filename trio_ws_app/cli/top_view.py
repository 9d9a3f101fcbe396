"""What ``top`` shows, made of two snapshots of the same processes: rates, connections, tasks."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ..observability.escaping import escaped
from ..observability.inspection.snapshot import ConnectionRow, Snapshot
from ..server.tasks import TaskNode
from ..wire.histogram import Distribution


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
    seconds = now.time - before.time

    def rate(name: str) -> float:
        return float(getattr(now.statistics, name) - getattr(before.statistics, name)) / seconds

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


def process_table(snapshots: Sequence[Snapshot], before: dict[int, Snapshot]) -> Table:
    """One line a process."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    headings = ("worker", "pid", "conns", "in/s", "out/s", "bytes in/s", "bytes out/s", "queued", "dropped")
    for heading in (*headings, "failed", "clean-up p99", "loop lag p99"):
        table.add_column(heading, justify="left" if heading == "worker" else "right", no_wrap=True)
    for snapshot in snapshots:
        table.add_row(*_process_cells(snapshot, rates(before.get(snapshot.pid), snapshot)))
    return table


def _process_cells(snapshot: Snapshot, speed: Rates) -> list[RenderableType]:
    counts = snapshot.statistics
    lag = None if snapshot.loop_lag is None else quantile(snapshot.loop_lag, 0.99)
    return [
        Text(escaped(f"{snapshot.worker}{' draining' if snapshot.draining else ''}")),
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
    ]


def connection_table(rows: Sequence[ConnectionRow], chosen: str | None = None) -> Table:
    """One line a connection; the chosen one is marked, a slow one is red."""
    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    table.add_column("connection", no_wrap=True)
    table.add_column("address", no_wrap=True)
    table.add_column("path", no_wrap=True, ratio=1)
    for heading in (
        "state",
        "age",
        "in",
        "out",
        "bytes in",
        "bytes out",
        "inbox",
        "queued",
        "dropped",
        "ping",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_connection_cells(row), style="reverse" if row.id == chosen else "")
    return table


def _connection_cells(row: ConnectionRow) -> list[RenderableType]:
    return [
        Text(escaped(row.id)),
        Text(escaped(row.remote)),
        Text(escaped(row.path)),
        "slow" if row.blocked else Text(escaped(row.state)),
        duration(row.age),
        str(row.messages_in),
        str(row.messages_out),
        size(row.bytes_in),
        size(row.bytes_out),
        _alarming(str(row.inbox), row.inbox > 0),
        _alarming(size(row.queued), row.blocked or row.queued > 0),
        _alarming(str(row.dropped), row.dropped > 0),
        duration(row.latency),
    ]


def task_view(node: TaskNode, parent: Tree | None = None) -> Tree:
    """The tasks as a tree, each with the line where it waits."""
    label = Text(escaped(node.name), style="bold")
    if node.waits is not None:
        place = node.waits
        label.append(f"  {escaped(place.file)}:{place.line}", style="cyan")
        label.append(f"  {escaped(place.text)}", style="dim")
    tree = Tree(label, guide_style="dim") if parent is None else parent.add(label)
    for child in node.children:
        task_view(child, tree)
    return tree


def find_node(node: TaskNode | None, name: str) -> TaskNode | None:
    """The task of this name, wherever it is in the tree."""
    if node is None or node.name == name:
        return node
    return next(filter(None, (find_node(child, name) for child in node.children)), None)


def print_once(snapshots: Sequence[Snapshot]) -> None:
    """Print processes, connections and tasks, one after the other."""
    parts: list[RenderableType] = [process_table(snapshots, {})]
    rows = [row for snapshot in snapshots for row in snapshot.connections]
    if rows:
        parts += ["", connection_table(rows)]
    parts += [part for snapshot in snapshots if snapshot.tasks for part in ("", task_view(snapshot.tasks))]
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


def _alarming(text: str, alarming: bool) -> Text:
    return Text(text, style="bold red" if alarming else "")
