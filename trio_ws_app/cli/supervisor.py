"""Several processes behind one port: started, watched, started again, and stopped together.

The workers inherit one listening socket. Unlike with a socket for each of them (SO_REUSEPORT), no
connection waits at a worker that has crashed: the others accept it, as the idle ones do
when one is busy. It also works for Unix sockets and for a port that the workers may not open themselves.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence

import attrs
import trio

from ..running_time import sleep_running
from .shutdown import AT_ONCE, CLEAN_UP

logger = logging.getLogger("trio_ws_app.supervisor")

MARGIN = 0.1  # seconds that workers get to end by themselves, after what their own watchdogs leave them
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0
_READY = b"1"
_VARIABLE = "TRIO_WS_APP_WORKER"  # how a process learns that it is a worker


class CannotStart(Exception):
    """A worker ended before it was ready; ``status`` is its exit status, negative for a signal's number."""

    def __init__(self, status: int) -> None:
        super().__init__(f"a worker {_ended(status)} before it was ready")
        self.status = status


@attrs.frozen
class Inherited:
    """What a worker gets: listening sockets, and a socket whose other end its supervisor holds open.

    ``number`` is its own among ``workers``, from 1. ``control`` is a directory for sockets by which the
    workers can ask each other, or None.
    """

    number: int
    workers: int
    control: str | None
    sockets: list[socket.socket]
    lifeline: int

    def announce(self) -> None:
        """Tell the supervisor that this worker serves."""
        os.write(self.lifeline, _READY)


def inherited() -> Inherited | None:
    """What this process has inherited if it is a worker, else None. To be called once."""
    text = os.environ.pop(_VARIABLE, None)
    if text is None:
        return None
    told = json.loads(text)
    lifeline, *descriptors = told["descriptors"]
    for descriptor in (lifeline, *descriptors):
        os.set_inheritable(descriptor, False)
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    return Inherited(told["number"], told["workers"], told["control"], sockets, lifeline)


@attrs.define(eq=False)
class _Pool:
    """The workers of one supervisor; ``stop_timeout`` is the time that they have to end, once asked."""

    command: Sequence[str]
    workers: int
    control: str | None
    listeners: Sequence[socket.socket]
    stop_timeout: float
    failure: CannotStart | None = None
    processes: set[trio.Process] = attrs.field(factory=set)
    signalled: bool = False
    stop_requested: trio.Event = attrs.field(factory=trio.Event)

    async def obey(self, signals: AsyncIterator[int], scope: trio.CancelScope, nursery: trio.Nursery) -> None:
        """Hand every signal on; after the first one no worker is started, and all have to end in time."""

        async def cancel_after(seconds: float) -> None:
            await sleep_running(seconds)
            scope.cancel()

        async for number in signals:
            nursery.start_soon(cancel_after, AT_ONCE + MARGIN if self.signalled else self.stop_timeout)
            self.signalled = True
            self.stop_requested.set()
            for process in self.processes:
                # The interpreter answers a SIGINT that comes before our handlers with a traceback.
                process.send_signal(signal.SIGTERM if number == signal.SIGINT else number)

    async def keep_running(self, number: int, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep one worker running. The first start has to succeed, else CannotStart is raised."""
        pause, ready_once = FIRST_PAUSE, False

        def ready() -> None:
            nonlocal ready_once
            if not ready_once:
                ready_once = True
                task_status.started()

        while not self.stop_requested.is_set():
            started_at = trio.current_time()
            process = await self._run(number, ready)
            if self.stop_requested.is_set():
                break
            if not ready_once:
                raise CannotStart(process.returncode or 0)
            if trio.current_time() - started_at > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            what = f"worker {number} (process {process.pid}) {_ended(process.returncode or 0)}"
            logger.warning("%s; it is started again in %g s", what, pause)
            with trio.move_on_after(pause):
                await self.stop_requested.wait()
            pause = min(2 * pause, LONGEST_PAUSE)
        ready()

    async def _run(self, number: int, ready: Callable[[], None]) -> trio.Process:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            descriptors = [theirs.fileno(), *(sock.fileno() for sock in self.listeners)]
            told = {"number": number, "workers": self.workers, "control": self.control}
            process = await trio.lowlevel.open_process(
                self.command,
                env=os.environ | {_VARIABLE: json.dumps(told | {"descriptors": descriptors})},
                pass_fds=descriptors,
                start_new_session=True,  # a Ctrl-C in the terminal must not reach a worker twice
            )
            theirs.close()
            self.processes.add(process)
            if self.signalled:
                process.terminate()  # the signal came while it was being started
            try:
                await trio.lowlevel.wait_readable(ours)
                if ours.recv(1) == _READY:
                    ready()
                await process.wait()
            finally:
                with trio.CancelScope(shield=True):
                    await self._end(process)
                self.processes.discard(process)
        return process

    async def _end(self, process: trio.Process) -> None:
        if process.poll() is None:
            if not self.signalled:
                process.terminate()
                with trio.move_on_after(self.stop_timeout):
                    await process.wait()
            process.kill()
            await process.wait()


async def supervise(
    command: Sequence[str],
    workers: int,
    listeners: Sequence[socket.socket],
    signals: AsyncIterator[int],
    *,
    grace_period: float,
    on_ready: Callable[[], object],
    control: str | None = None,
) -> None:
    """Run ``workers`` processes of ``command`` on the listening sockets until a signal stops them.

    ``command`` calls ``inherited`` to learn what it serves on; ``control`` is handed on there. ``on_ready``
    is called when all of them serve. One that ends is started again after a pause that grows while it keeps
    ending. Each of ``signals`` is handed on to all; the workers that are left ``grace_period`` and most of a
    second after the first one, or ``AT_ONCE`` after the second, are killed. The caller closes the listening
    sockets afterwards.

    When cancelled, the workers are stopped with SIGTERM and waited for as long.

    Raises:
        CannotStart: a worker ended before it was ready for the first time; the others are stopped.
    """
    pool = _Pool(command, workers, control, listeners, grace_period + CLEAN_UP + MARGIN)
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as nursery:
            outer.start_soon(pool.obey, signals, nursery.cancel_scope, outer)
            await _start(pool, 1, nursery)  # alone: a mistake that concerns all is told once
            async with trio.open_nursery() as starting:
                for number in range(2, workers + 1):
                    starting.start_soon(_start, pool, number, nursery)
            if not pool.stop_requested.is_set():
                on_ready()
        outer.cancel_scope.cancel()
    if pool.failure is not None:
        raise pool.failure


async def _start(pool: _Pool, number: int, nursery: trio.Nursery) -> None:
    try:
        await nursery.start(pool.keep_running, number)
    except CannotStart as error:
        pool.failure = error
        pool.stop_requested.set()
        nursery.cancel_scope.cancel()


def _ended(status: int) -> str:
    return f"ended with status {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"
