"""Several processes behind one port: started, watched, replaced, and stopped together.

The workers inherit one listening socket. Unlike with a socket for each of them (SO_REUSEPORT), no
connection waits at a worker that has crashed: the others accept it, as the idle ones do
when one is busy. It also works for Unix sockets and for a port that the workers may not open themselves.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial

import attrs
import trio

from ..concurrency.running_time import sleep_running
from ..errors import UsageError
from .configuration import Configuration
from .errors import MISTAKE, PROGRAM
from .run import announce
from .shutdown import AT_ONCE, CLEAN_UP, RELOAD, Shutdown
from .systemd import Notifier
from .worker import Team, Worker

logger = logging.getLogger("trio_ws_app.supervisor")

MARGIN = 0.1  # seconds that workers get to end by themselves, after what their own watchdogs leave them
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0
SLOW_START = 60.0  # seconds until the log tells of a worker that does not serve


@attrs.define(eq=False)
class _Pool:
    """The workers of one supervisor, each in its place."""

    team: Team
    notifier: Notifier
    places: Sequence[_Place]
    reload_requested: trio.Event = attrs.field(factory=trio.Event)

    async def obey(self, signals: AsyncIterator[int], scope: trio.CancelScope, nursery: trio.Nursery) -> None:
        """Replace the workers on ``RELOAD``; hand on signals: after the first one all have to end in time."""

        async def cancel_after(seconds: float) -> None:
            await sleep_running(seconds)
            scope.cancel()

        async for number in signals:
            if number == RELOAD:
                self.reload_requested.set()
                for place in self.places:
                    place.give_up_start()
                continue
            if not self.team.stopping.is_set():
                self.notifier.stopping()
            seconds = AT_ONCE + MARGIN if self.team.stopping.is_set() else self.team.stop_timeout
            nursery.start_soon(cancel_after, seconds)
            # The interpreter answers a SIGINT that comes before our handlers with a traceback.
            self.team.stop(signal.SIGTERM if number == signal.SIGINT else number)

    async def replace_on_request(self) -> None:
        """Replace the workers one by one as often as that is asked for; a failure ends the round."""
        while True:
            await self.reload_requested.wait()
            self.reload_requested = trio.Event()
            self.notifier.reloading()
            for place in self.places:
                if not await place.replace():
                    break
            else:
                logger.info("all workers are replaced")
            if not self.team.stopping.is_set():
                self.notifier.ready()


@attrs.define(eq=False)
class _Place:
    """One worker after the other; at the moment when it is replaced, two."""

    number: int
    team: Team
    nursery: trio.Nursery
    worker: Worker | None = None
    starting: Worker | None = None
    lock: trio.Lock = attrs.field(factory=trio.Lock)

    async def _start(self) -> Worker:
        """A worker that has begun to serve, or has ended before. Raises OSError if it can't even begin."""
        replaces = self.worker is not None
        worker: Worker = await self.nursery.start(Worker.run, self.number, self.team, replaces)
        self.starting = worker
        with trio.move_on_after(SLOW_START):
            await worker.settled.wait()
        if not worker.settled.is_set():
            logger.warning("%s does not serve yet, %g s after its start", worker, SLOW_START)
            await worker.settled.wait()
        self.starting = None
        return worker

    def give_up_start(self) -> None:
        """Kill a worker that does not serve yet, unless it is the first: another one is asked for."""
        worker = self.starting
        if worker is not None and not worker.settled.is_set() and self.worker is not None:
            worker.is_retiring = True
            worker.process.kill()

    async def keep_occupied(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep one worker running; started once it serves. If the first can't start, SystemExit is raised."""
        pause = FIRST_PAUSE
        worker = self.worker = await self._start()
        if not worker.is_ready and not self.team.stopping.is_set():
            # A worker whose caller has made a mistake has said which.
            text = f"{PROGRAM}: a worker {worker.ended_how} before it was ready"
            raise SystemExit(MISTAKE if worker.status == MISTAKE else text)
        task_status.started()
        while True:
            await worker.ended.wait()
            if self.team.stopping.is_set():
                return
            if worker is self.worker:
                if trio.current_time() - worker.started_at > LONGEST_PAUSE:
                    pause = FIRST_PAUSE
                logger.warning("%s %s; it is started again in %g s", worker, worker.ended_how, pause)
                with trio.move_on_after(pause):
                    await self.team.stopping.wait()
                pause = min(2 * pause, LONGEST_PAUSE)
            async with self.lock:
                if worker is self.worker and not self.team.stopping.is_set():
                    try:
                        self.worker = await self._start()
                    except OSError as problem:
                        logger.error("worker %d cannot be started: %s", self.number, problem)
            worker = self.worker or worker

    async def replace(self) -> bool:
        """Start a successor and, once it serves, have the worker end with 1012; False if it cannot start."""
        async with self.lock:
            if self.team.stopping.is_set():
                return False
            old, text = self.worker, "worker %d stays as it is: its successor %s"
            try:
                new = await self._start()
            except OSError as problem:
                logger.error(text, self.number, f"cannot be started: {problem}")
                return False
            if not new.is_ready:
                if not self.team.stopping.is_set() and not new.is_retiring:
                    logger.error(text, self.number, new.ended_how)
                return False
            self.worker = new
        if old is not None:
            await old.retire()
        return True


async def supervise(
    team: Team, signals: AsyncIterator[int], notifier: Notifier, on_ready: Callable[[], object]
) -> None:
    """Run the team's workers on its listening sockets until a signal stops them.

    ``on_ready`` is called when all of them serve. One that ends is started again after a pause that grows
    while it keeps ending; one whose event loop has not turned for ``worker_timeout`` seconds is killed and
    started again. ``RELOAD`` replaces them one by one, each by one that serves already; the next one ends a
    worker that does not serve yet, and begins anew. Each other of ``signals`` is handed on to all; the
    workers that are left ``stop_timeout`` seconds after the first one, or ``AT_ONCE`` after the second, are
    killed. The caller closes the listening sockets afterwards.

    When cancelled, the workers are stopped with SIGTERM and waited for as long.

    Raises:
        SystemExit: in a group; a worker ended before it was ready for the first time, the others are stopped.
    """
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as nursery:
            places = [_Place(number, team, nursery) for number in range(1, team.workers + 1)]
            pool = _Pool(team, notifier, places)
            outer.start_soon(pool.obey, signals, nursery.cancel_scope, outer)
            await nursery.start(places[0].keep_occupied)  # alone: a mistake that concerns all is told once
            async with trio.open_nursery() as starting:
                for place in places[1:]:
                    starting.start_soon(nursery.start, place.keep_occupied)
            if not team.stopping.is_set():
                on_ready()
                notifier.ready()
                outer.start_soon(notifier.keep_watchdog)
                outer.start_soon(pool.replace_on_request)
        outer.cancel_scope.cancel()


async def run_workers(config: Configuration, shutdown: Shutdown, notifier: Notifier) -> None:
    """Run this command once more in every worker until a signal stops them.

    Raises SystemExit, in a group, if a worker cannot start at all; and with the status of one that fails when
    it is to end.
    """
    if not os.access(sys.executable, os.X_OK):
        raise UsageError(f"--workers: this user may not run {sys.executable}")
    with shutdown.receiver() as signals:
        config.listening.listen()
        with _control_directory(config) as control:
            team = Team(
                [sys.executable, *sys.orig_argv[1:]],
                config.workers,
                control,
                config.listening.sockets,
                config.settings.grace_period + CLEAN_UP + MARGIN,
                config.worker_timeout,
                config.has_successor,
            )
            await supervise(team, signals, notifier, partial(announce, config))
    if team.status:
        raise SystemExit(team.status)


@contextmanager
def _control_directory(config: Configuration) -> Iterator[str | None]:
    """The directory of the workers' control sockets, if they need any; for metrics, they ask each other."""
    path = config.control
    if path is None:
        asks = config.observability.measures_lag
        with tempfile.TemporaryDirectory() if asks else nullcontext() as directory:
            yield directory
        return
    is_new = _make_directory(path)
    try:
        yield path
    finally:
        for number in range(1, config.workers + 1):  # those of workers that were killed
            with suppress(OSError):
                os.unlink(f"{path}/{number}.sock")
        if is_new:
            with suppress(OSError):
                os.rmdir(path)


def _make_directory(path: str) -> bool:
    """Whether it was not there before."""
    try:
        os.mkdir(path, mode=0o700)
    except FileExistsError:
        if os.path.isdir(path):
            return False
        raise UsageError(f"--control: {path} is not a directory, which several workers need") from None
    except OSError as problem:
        raise UsageError(f"--control: cannot make the directory {path}: {problem.strerror}") from None
    return True
