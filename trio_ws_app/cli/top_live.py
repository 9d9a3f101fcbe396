"""The live view of ``top``: it asks, draws, and obeys single keys."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import attrs
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ..errors import UsageError
from ..observability.escaping import escaped
from ..observability.inspection.fetch import fetch
from ..observability.inspection.snapshot import SORTS, ConnectionRow, Query, Snapshot
from .top_view import connection_table, find_node, process_table, task_view

_HELP = "s sort  / filter  j k or arrows choose  t tasks  q quit"
_ARROWS = {"\x1b[A": "k", "\x1b[B": "j"}
_TASK_LINES = 12


@attrs.define
class View:
    """What the person at the keyboard has chosen, and what was seen last."""

    query: Query
    snapshots: list[Snapshot] = attrs.field(factory=list)
    before: dict[int, Snapshot] = attrs.field(factory=dict)
    problem: str = ""
    chosen: int = 0
    all_tasks: bool = False
    typing: bool = False

    @property
    def rows(self) -> list[ConnectionRow]:
        """The connections of all processes, in order."""
        rows = [row for snapshot in self.snapshots for row in snapshot.connections]
        return sorted(rows, key=SORTS[self.query.sort])

    def update(self, places: Sequence[str], token: str | None) -> None:
        """Take new snapshots; a server that is away is said to be, and asked again at the next turn."""
        seen = []
        self.problem = ""
        for place in places:
            try:
                seen.append(fetch(place, attrs.evolve(self.query, tasks=True), token))
            except UsageError as problem:
                self.problem = str(problem)
        self.before = {snapshot.pid: snapshot for snapshot in self.snapshots}
        self.snapshots = seen

    def press(self, key: str) -> bool:
        """Obey one key; False when it ends the view."""
        if self.typing:
            self._type(key)
            return True
        key = _ARROWS.get(key, key)
        if key == "s":
            sorts = list(SORTS)
            self.query = attrs.evolve(self.query, sort=sorts[(sorts.index(self.query.sort) + 1) % len(sorts)])
        elif key == "/":
            self.typing = True
            self.query = attrs.evolve(self.query, filter="")
        elif key == "t":
            self.all_tasks = not self.all_tasks
            self.chosen = 0
        elif key in "jk" and key:
            self.chosen = max(0, self.chosen + (1 if key == "j" else -1))
        return key not in ("q", "\x03")

    def _type(self, key: str) -> None:
        if key in ("\r", "\n", "\x1b"):
            self.typing = False
        elif key == "\x7f":
            self.query = attrs.evolve(self.query, filter=self.query.filter[:-1])
        elif key.isprintable():
            self.query = attrs.evolve(self.query, filter=self.query.filter + key)

    def draw(self, console: Console) -> RenderableType:
        """The whole screen."""
        parts: list[RenderableType] = [self._status(), process_table(self.snapshots, self.before), ""]
        left = console.height - len(self.snapshots) - 4
        if self.all_tasks:
            return Group(*parts, *self._task_lines(console, left))
        rows = self.rows
        self.chosen = min(self.chosen, max(0, len(rows) - 1))
        shown = max(1, left - _TASK_LINES - 3)
        start = max(0, self.chosen - shown + 1)
        chosen = rows[self.chosen].id if rows else None
        parts += [connection_table(rows[start : start + shown], chosen), ""]
        for snapshot in self.snapshots:
            node = find_node(snapshot.tasks, chosen) if chosen else None
            if node is not None:
                parts.append(task_view(node))
        return Group(*parts)

    def _task_lines(self, console: Console, height: int) -> list[Text]:
        """The whole tree, scrolled to what was chosen."""
        trees = [task_view(snapshot.tasks) for snapshot in self.snapshots if snapshot.tasks]
        with console.capture() as captured:
            console.print(*trees)
        lines = captured.get().splitlines()
        self.chosen = min(self.chosen, max(0, len(lines) - height))
        return [Text.from_ansi(line) for line in lines[self.chosen : self.chosen + height]]

    def _status(self) -> Text:
        if self.problem:
            return Text(escaped(self.problem), style="bold red", no_wrap=True)
        filtered = f"filter: {self.query.filter}{'_' if self.typing else ''}"
        return Text(
            f"sort: {self.query.sort}  {filtered}  {time.strftime('%X')}   {_HELP}", style="dim", no_wrap=True
        )


def watch(places: Sequence[str], token: str | None, query: Query, interval: float) -> None:
    """Show the view until ``q``."""
    view = View(query)
    console = Console(highlight=False)
    with _single_keys() as keyboard, Live(console=console, screen=True, auto_refresh=False) as live:
        due = 0.0
        while True:
            now = time.monotonic()
            if now >= due:
                view.update(places, token)
                due = now + interval
            live.update(view.draw(console), refresh=True)
            if select.select([keyboard], [], [], max(0.0, due - time.monotonic()))[0]:
                if not all(view.press(key) for key in _keys(os.read(keyboard, 64))):
                    return
                due = 0.0


def _keys(typed: bytes) -> list[str]:
    """What was typed, key by key; an arrow comes as one sequence."""
    text = typed.decode(errors="replace")
    return [text] if text.startswith("\x1b") else list(text)


@contextmanager
def _single_keys() -> Iterator[int]:
    """Standard input, key by key and without echo."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        yield keyboard
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
