"""All runs of a scenario from one: at each point the process splits, and the child is cancelled."""

from __future__ import annotations

import os
import warnings
from collections import deque

import attrs
from trio.lowlevel import Task

from .trial import Trial


@attrs.define(eq=False)
class ForkedTrial(Trial):
    """One undisturbed run, from whose every point a child goes on that is struck there.

    So the common beginning of the runs takes place once. ``failure`` is the number of the first
    point whose child failed, or None; what went wrong there, a run in this process has to tell.
    """

    failure: int | None = None
    _children: deque[tuple[int, int]] = attrs.field(factory=deque)
    _is_child: bool = False

    async def _perform(self) -> None:
        try:
            await super()._perform()
        except BaseException:
            # Not one step further: the child shares its parent's epoll, and must not tidy it up.
            if self._is_child:
                os._exit(1)
            raise
        if self._is_child:
            os._exit(0)
        while self._children:
            self._wait_for_oldest()

    def _reached(self, task: Task) -> None:
        if self.failure is None and self._split():
            self._strike(task)

    def _split(self) -> bool:
        """Whether this is the child."""
        if len(self._children) >= len(os.sched_getaffinity(0)):
            self._wait_for_oldest()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # idle threads of others do not matter
            pid = os.fork()
        if pid:
            self._children.append((pid, self._seen))
            return False
        self._is_child = True
        self._children.clear()
        return True

    def _wait_for_oldest(self) -> None:
        pid, number = self._children.popleft()
        _, status = os.waitpid(pid, 0)
        if status and (self.failure is None or number < self.failure):
            self.failure = number
