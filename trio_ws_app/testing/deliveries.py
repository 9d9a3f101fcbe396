"""Where a cancellation arrives: the points at which tasks see ``trio.Cancelled``."""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import trio
from trio.lowlevel import Task

from .points import Place, waiting_place


@attrs.define(eq=False)
class Deliveries(trio.abc.Instrument):
    """Notes where each of ``names``' tasks is cancelled by what happens between here and ``delivered()``.

    A task that waits is scheduled by the cancellation itself; one that was about to run sees it where
    it next gives up control.
    """

    names: Mapping[Task, str]
    places: dict[Task, Place] = attrs.field(factory=dict)
    _cancelling: bool = True

    def delivered(self) -> None:
        """The cancellation has been requested; from now on tasks run into it."""
        self._cancelling = False

    def task_scheduled(self, task: Task) -> None:
        if self._cancelling and task in self.names:
            self.places[task] = waiting_place(task)

    def after_task_step(self, task: Task) -> None:
        if task in self.names and task not in self.places and task.coro.cr_frame is not None:
            self.places[task] = waiting_place(task)

    def cancelled(self) -> tuple[tuple[str, Place], ...]:
        """The name and the place of each task that was cancelled, in the order of the run."""
        return tuple((self.names[task], place) for task, place in self.places.items())
