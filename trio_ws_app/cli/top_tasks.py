"""The tasks that ``top`` shows: the application's, each with the line where it waits; the server's folded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from rich.text import Text
from rich.tree import Tree

from ..observability.escaping import escaped
from ..observability.inspection.snapshot import Snapshot
from ..server.tasks import TaskNode

_QUALIFIED = re.compile(r"[\w.]+")


def tasks_of(snapshot: Snapshot, *, internals: bool = False) -> Tree:
    """All tasks of a process. Without ``internals`` those of the server itself are one line."""
    assert snapshot.tasks is not None
    tree = Tree(Text(escaped(f"worker {snapshot.worker}"), style="bold"), guide_style="dim")
    if internals:
        task_view(snapshot.tasks, tree)
        return tree
    connections = {row.id for row in snapshot.connections}
    folded: Counter[str] = Counter()
    for node in _unfolded(snapshot.tasks, connections, folded):
        task_view(node, tree)
    if folded:
        names = [f"{count} x {name}" if count > 1 else name for name, count in sorted(folded.items())]
        text = f"{folded.total()} of the server's own: {', '.join(names)}"
        tree.add(Text(escaped(text), style="dim", no_wrap=True, overflow="ellipsis"))
    return tree


def _unfolded(node: TaskNode, connections: set[str], folded: Counter[str]) -> Iterator[TaskNode]:
    """The topmost tasks that are the application's; those above and beside them are counted."""
    if not node.internal or node.name in connections:
        yield node
        return
    if not node.name.startswith("<"):  # Trio's
        folded[_short(node.name)] += 1
    for child in node.children:
        yield from _unfolded(child, connections, folded)


def _short(name: str) -> str:
    """A task's name without the modules before it: ``Lease.keep``."""
    if not _QUALIFIED.fullmatch(name):
        return name
    *_, owner, last = ["", *name.split(".")]
    return f"{owner}.{last}" if owner.lstrip("_")[:1].isupper() else last


def task_view(node: TaskNode, parent: Tree | None = None) -> Tree:
    """The task and those below it, each with what it waits for and the line of its code."""
    label = Text(escaped(node.name), style="bold", no_wrap=True, overflow="ellipsis")
    if node.doing:
        label.append(f"  {escaped(node.doing)}", style="not bold")
    if node.waits is not None and not (node.doing and node.internal):
        place = node.waits
        label.append(f"  {escaped(place.file)}:{place.line}", style="not bold cyan")
        label.append(f"  {escaped(place.text)}", style="not bold dim")
    tree = Tree(label, guide_style="dim") if parent is None else parent.add(label)
    for child in node.children:
        task_view(child, tree)
    return tree


def find_node(node: TaskNode | None, name: str) -> TaskNode | None:
    """The task of this name in the tree."""
    if node is None or node.name == name:
        return node
    return next((found for child in node.children if (found := find_node(child, name))), None)
