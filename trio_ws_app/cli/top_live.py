"""The live view of ``top``: it asks, draws, and obeys single keys."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable

import attrs
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ..errors import UsageError
from ..observability.escaping import escaped
from ..observability.inspection.fetch import fetch
from ..observability.inspection.rows import SORTS, ConnectionRow
from ..observability.inspection.snapshot import Query, Snapshot
from .terminal import key_by_key
from .top_tasks import find_node, task_view, tasks_of
from .top_view import Rates, connection_table, facts, header, process_table, rates

_HELP = ("s sort", "/ filter", "j k choose", "t tasks")
_TASK_HELP = ("j k scroll", "i internals", "t back")
_DOWN, _UP = ("j", "\x1b[B", "\x1bOB"), ("k", "\x1b[A", "\x1bOA")
_STEPS = dict.fromkeys(_DOWN, 1) | dict.fromkeys(_UP, -1) | {"\x1b[6~": 10, "\x1b[5~": -10}  # and by pages
_LEAST_TIME = 0.5  # seconds between two snapshots that rates are computed from
_SEQUENCE = re.compile("\x1b[\\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)  # an arrow is one key


@attrs.define
class View:
    """What the person at the keyboard has chosen, and what was seen last."""

    query: Query
    snapshots: list[Snapshot] = attrs.field(factory=list)
    before: dict[int, Snapshot] = attrs.field(factory=dict)
    speeds: dict[int | str, Rates] = attrs.field(factory=dict)
    problem: str = ""
    chosen: int = 0
    marked: str | None = None  # the id of the connection that was chosen by hand
    all_tasks: bool = False
    internals: bool = False
    typing: bool = False

    @property
    def rows(self) -> list[ConnectionRow]:
        """The connections of all processes, in order."""
        rows = [row for snapshot in self.snapshots for row in snapshot.connections]
        return sorted(rows, key=SORTS[self.query.sort])

    def update(self, places: Callable[[], list[str]], token: str | None) -> None:
        """Ask for new snapshots; a server that is away is said to be, and asked again at the next turn.

        ``places`` are looked for anew each time: workers come and go.
        """
        self.problem = ""
        try:
            found = places()
        except UsageError as problem:
            found, self.problem = [], str(problem)
        seen = []
        for place in found:
            try:
                seen.append(fetch(place, self.query, token))
            except UsageError as problem:
                self.problem = str(problem)
        self.take(seen)

    def take(self, snapshots: list[Snapshot]) -> None:
        """Show these from now on; a connection that was chosen is, wherever it is now."""
        shown = {snapshot.pid: snapshot for snapshot in self.snapshots}
        self.before = {
            now.pid: candidate
            if now.pid not in self.before or now.time - candidate.time >= _LEAST_TIME
            else self.before[now.pid]
            for now in snapshots
            if (candidate := shown.get(now.pid)) is not None
        }
        self.speeds = {}
        for now in snapshots:
            self.speeds |= rates(self.before.get(now.pid), now)
        self.snapshots = snapshots
        ids = [row.id for row in self.rows]
        if not self.all_tasks and self.marked in ids:
            self.chosen = ids.index(self.marked)

    def press(self, key: str) -> bool:
        """Obey one key; False when it ends the view."""
        if self.typing:
            self._type(key)
            return True
        if key == "s":
            sorts = list(SORTS)
            self.query = attrs.evolve(self.query, sort=sorts[(sorts.index(self.query.sort) + 1) % len(sorts)])
        elif key == "/":
            self.typing = True
            self.query = attrs.evolve(self.query, filter="")
        elif key == "t":
            self.all_tasks = not self.all_tasks
            self.chosen, self.marked = 0, None
        elif key == "i":
            self.internals = not self.internals
        elif key in _STEPS:
            self.chosen = max(0, self.chosen + _STEPS[key])
            rows = [] if self.all_tasks else self.rows
            self.marked = rows[min(self.chosen, len(rows) - 1)].id if rows else None
        return key != "q"

    def _type(self, key: str) -> None:
        if key in ("\r", "\n", "\x1b"):
            self.typing = False
        elif key == "\x7f":
            self.query = attrs.evolve(self.query, filter=self.query.filter[:-1])
        elif key.isprintable():
            self.query = attrs.evolve(self.query, filter=self.query.filter + key)

    def draw(self, console: Console) -> RenderableType:
        """The whole screen: as many lines as it has."""
        top = [*_lines(console, header(self.snapshots)), *self._processes(console), Text()]
        room = console.height - len(top) - 1
        middle = self._all_tasks(console, room) if self.all_tasks else self._connections(console, room)
        filling = [Text()] * (room - len(middle))
        return Group(*[*top, *middle, *filling][: max(0, console.height - 1)], self._status(console.width))

    def _processes(self, console: Console) -> list[Text]:
        lines = _lines(console, process_table(self.snapshots, self.speeds))
        return _cut(lines, max(3, console.height // 4 + 1))

    def _connections(self, console: Console, room: int) -> list[Text]:
        """The connections, and below them the chosen one's tasks, with what room the others leave to it."""
        rows = self.rows
        self.chosen = min(self.chosen, max(0, len(rows) - 1))
        chosen = rows[self.chosen].id if rows else None
        total = sum(snapshot.matching for snapshot in self.snapshots)
        tasks = _cut(self._details(console, chosen), max(room // 3, room - total - 2))
        left = max(2, room - len(tasks) - 1)
        shown = total if total < left else left - 2  # lines for the heading, and for how many more
        start = max(0, self.chosen - shown + 1)
        table = connection_table(rows[start : start + shown], self.speeds, chosen)
        return [*_lines(console, table), *_more(total - len(table.rows)), Text(), *tasks]

    def _details(self, console: Console, chosen: str | None) -> list[Text]:
        """What is known of the chosen connection, and its tasks."""
        for snapshot in self.snapshots:
            for row in snapshot.connections:
                if row.id == chosen:
                    node = find_node(snapshot.tasks, row.id)
                    below = [] if node is None else [task_view(node)]
                    return _lines(console, facts(row, snapshot.worker), *below)
        return []

    def _all_tasks(self, console: Console, height: int) -> list[Text]:
        """The whole tree, scrolled to what was chosen."""
        trees = [tasks_of(one, internals=self.internals) for one in self.snapshots if one.tasks is not None]
        lines = _lines(console, *trees)
        self.chosen = min(self.chosen, max(0, len(lines) - height + 1))
        return _cut(lines[self.chosen :], height)

    def _status(self, width: int) -> Text:
        if self.problem:
            return Text(escaped(self.problem), style="bold red", no_wrap=True, overflow="ellipsis")
        filtered = f"filter: {escaped(self.query.filter)}{'_' if self.typing else ''}"
        said = [f"sort: {self.query.sort}", filtered, *(_TASK_HELP if self.all_tasks else _HELP), "q quit"]
        while len("  ".join(said)) > width and len(said) > 3:
            del said[-2]
        return Text("  ".join(said), style="dim", no_wrap=True, overflow="ellipsis")


def _lines(console: Console, *parts: RenderableType) -> list[Text]:
    lines = (line for part in parts for line in console.render_lines(part, pad=False))
    return [Text.assemble(*((part.text, part.style or "") for part in line), no_wrap=True) for line in lines]


def _cut(lines: list[Text], most: int) -> list[Text]:
    """The first lines; if there are more than ``most``, the last one says how many."""
    return lines if len(lines) <= most else [*lines[: most - 1], *_more(len(lines) - most + 1)]


def _more(count: int) -> list[Text]:
    return [Text(f"{count} more", style="dim", no_wrap=True)] if count > 0 else []


def watch(places: Callable[[], list[str]], token: str | None, query: Query, interval: float) -> None:
    """Show the view until ``q``."""
    view = View(query)
    console = Console(highlight=False)
    keyboard = sys.stdin.fileno()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # the terminal is to be as before
    with key_by_key(keyboard), Live(console=console, screen=True, auto_refresh=False) as live:
        due = 0.0
        while True:
            now = time.monotonic()
            if now >= due:
                view.update(places, token)
                due = now + interval
            live.update(view.draw(console), refresh=True)
            if select.select([keyboard], [], [], max(0.0, due - time.monotonic()))[0]:
                typed = os.read(keyboard, 64).decode(errors="replace")
                if not all(view.press(key) for key in _SEQUENCE.findall(typed)):
                    return
                due = 0.0
