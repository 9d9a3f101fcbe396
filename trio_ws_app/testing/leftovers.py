"""assert_nothing_left: what a block started must be over when the block is."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Iterator, Sized
from contextlib import contextmanager
from types import AsyncGeneratorType
from typing import Any

import trio


@contextmanager
def assert_nothing_left(*registrations: Sized) -> Iterator[None]:
    """Fail with AssertionError when the block leaves something behind that was not there before.

    Compares the tasks of the current run (when there is one), the open descriptors of the process, and the
    async generators that were begun in the block. ``registrations`` are containers (registries, sets of
    connections) which must have as many entries as before. When the block raises, its exception comes out
    and nothing is compared.
    """
    tasks, descriptors = _tasks(), _descriptors()
    entries = [len(container) for container in registrations]
    with _begun_async_generators() as begun:
        yield
        left = [f"task {task.name}" for task in _tasks() - tasks]
        left += [f"descriptor {number} ({target})" for number, target in _descriptors() - descriptors]
        left += [f"async generator {made.__qualname__}" for made in begun if made.ag_frame is not None]
        left += [
            f"{len(container) - count} registrations in {container!r}"
            for container, count in zip(registrations, entries, strict=True)
            if len(container) != count
        ]
        if left:
            raise AssertionError("left behind: " + ", ".join(sorted(left)))


def tasks_below(task: trio.lowlevel.Task) -> list[trio.lowlevel.Task]:
    """``task``, then all tasks that run in its nurseries, in theirs, and so on."""
    found = [task]
    for parent in found:
        for nursery in parent.child_nurseries:
            found += nursery.child_tasks
    return found


def _tasks() -> set[trio.lowlevel.Task]:
    if not trio.lowlevel.in_trio_run() or (root := trio.lowlevel.current_root_task()) is None:
        return set()
    return set(tasks_below(root))


def _descriptors() -> set[tuple[int, str]]:
    found = set()
    for name in os.listdir("/dev/fd"):
        try:
            found.add((int(name), os.readlink(f"/dev/fd/{name}")))
        except OSError:
            continue  # the listing's own descriptor, closed by now
    return found


@contextmanager
def _begun_async_generators() -> Iterator[list[AsyncGeneratorType[Any, Any]]]:
    """Give a list to which the async generators that are begun in the block are added."""
    outer = sys.get_asyncgen_hooks()
    begun: list[AsyncGeneratorType[Any, Any]] = []

    def first_iteration(generator: AsyncGenerator[Any, Any]) -> None:
        if isinstance(generator, AsyncGeneratorType):
            begun.append(generator)
        if outer.firstiter is not None:
            outer.firstiter(generator)

    sys.set_asyncgen_hooks(firstiter=first_iteration)
    try:
        yield begun
    finally:
        sys.set_asyncgen_hooks(*outer)
