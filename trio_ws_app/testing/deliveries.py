"""Where a cancellation arrives: the points at which tasks see ``trio.Cancelled``."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import attrs
import trio
from trio.lowlevel import Task

from .points import Place, waiting_place


@attrs.define(eq=False)
class Deliveries(trio.abc.Instrument):
    """Notes where each of ``names``' tasks is cancelled by what happens between here and ``delivered()``.

    A task that waits is scheduled by the cancellation itself; one that was about to run sees it where
    it next gives up control, which is before Trio has waited for anything twice.
    """

    names: Mapping[Task, str]
    places: dict[Task, Place] = attrs.field(factory=dict)
    _cancelling: bool = True
    _waits: int = 0

    def delivered(self) -> None:
        """The cancellation has been requested; from now on tasks run into it."""
        self._cancelling = False

    def task_scheduled(self, task: Task) -> None:
        if self._cancelling and task in self.names:
            self.places[task] = waiting_place(task)

    def after_task_step(self, task: Task) -> None:
        if task not in self.names or task in self.places or task.coro.cr_frame is None:
            return
        if trio.current_effective_deadline() == -inf:
            self.places[task] = waiting_place(task)

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002  # an instrument's signature
        self._waits += 1
        if self._waits == 2:
            trio.lowlevel.remove_instrument(self)

    def cancelled(self) -> tuple[tuple[str, Place], ...]:
        """The name and the place of each task that was cancelled, in the order of the run."""
        return tuple((self.names[task], place) for task, place in self.places.items())
