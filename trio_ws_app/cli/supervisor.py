"""Several processes behind one port: started, watched, started again, and stopped together.

The workers inherit one listening socket. Unlike a socket for each of them (SO_REUSEPORT), nobody's
connections wait at a worker that has crashed: the others accept them, as the idle ones do
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

logger = logging.getLogger("trio_ws_app.supervisor")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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
    """What a worker gets: listening sockets, and the line that ties it to its supervisor.

    ``number`` is its own among ``workers``, from 1. ``control`` is a directory for sockets by which the
    workers can ask each other, or None. The block closes the sockets.
    """

    number: int
    workers: int
    control: str | None
    sockets: list[socket.socket]
    lifeline: socket.socket

    def __enter__(self) -> Inherited:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self.lifeline, *self.sockets):
            sock.close()

    def announce(self) -> None:
        """Tell the supervisor that this worker serves."""
        self.lifeline.send(_READY)

    async def stop_when_orphaned(self) -> None:
        """Send this process SIGTERM when its supervisor is gone, however that ended."""
        await trio.lowlevel.wait_readable(self.lifeline)
        os.kill(os.getpid(), signal.SIGTERM)


def inherited() -> Inherited | None:
    """What this process has inherited if it is a worker, else None. To be called once."""
    text = os.environ.pop(_VARIABLE, None)
    if text is None:
        return None
    told = json.loads(text)
    lifeline, *sockets = [socket.socket(fileno=descriptor) for descriptor in told["descriptors"]]
    for sock in (lifeline, *sockets):
        sock.set_inheritable(False)
    return Inherited(told["number"], told["workers"], told["control"], sockets, lifeline)


@attrs.define(eq=False)
class _Team:
    command: Sequence[str]
    workers: int
    control: str | None
    listeners: Sequence[trio.socket.SocketType]
    patience: float
    failure: CannotStart | None = None
    processes: set[trio.Process] = attrs.field(factory=set)
    stopping: bool = False
    stop_requested: trio.Event = attrs.field(factory=trio.Event)

    async def obey(self, signals: AsyncIterator[int]) -> None:
        """Hand every signal on; after the first one nobody is started any more."""
        async for number in signals:
            self.stopping = True
            self.stop_requested.set()
            for process in self.processes:
                process.send_signal(number)

    async def keep(self, number: int, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep one worker running. The first start has to succeed, else CannotStart is raised."""
        pause, ready_once = FIRST_PAUSE, False

        def ready() -> None:
            nonlocal ready_once
            if not ready_once:
                ready_once = True
                task_status.started()

        while not self.stopping:
            began = trio.current_time()
            process = await self._run(number, ready)
            if self.stopping:
                break
            if not ready_once:
                raise CannotStart(process.returncode or 0)
            if trio.current_time() - began > LONGEST_PAUSE:
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
            if self.stopping:
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
            process.terminate()
            with trio.move_on_after(self.patience):
                await process.wait()
            process.kill()
            await process.wait()


async def supervise(
    command: Sequence[str],
    workers: int,
    listeners: Sequence[trio.socket.SocketType],
    *,
    patience: float,
    on_ready: Callable[[], object],
    control: str | None = None,
) -> None:
    """Run ``workers`` processes of ``command`` on the listening sockets until a signal stops them.

    ``command`` calls ``inherited`` to learn what it serves on; ``control`` is handed on there. ``on_ready``
    is called when all of them serve. One that ends is started again after a pause that grows while it keeps
    ending. SIGINT, SIGTERM and SIGHUP are handed on to all; workers that are left ``patience`` seconds after
    the first signal are killed. The caller closes the listening sockets afterwards.

    When cancelled, the workers are stopped with SIGTERM and waited for as long.

    Raises:
        CannotStart: a worker ended before it was ready for the first time; the others are stopped.
    """
    team = _Team(command, workers, control, listeners, patience)
    with trio.open_signal_receiver(*SIGNALS) as signals:
        async with trio.open_nursery() as outer:
            outer.start_soon(team.obey, signals)
            async with trio.open_nursery() as nursery:
                outer.start_soon(_give_up_stragglers, team, nursery.cancel_scope)
                await _start(team, 1, nursery)  # alone: a mistake that concerns all is told once
                async with trio.open_nursery() as starting:
                    for number in range(2, workers + 1):
                        starting.start_soon(_start, team, number, nursery)
                if not team.stopping:
                    on_ready()
            outer.cancel_scope.cancel()
    if team.failure is not None:
        raise team.failure


async def _start(team: _Team, number: int, nursery: trio.Nursery) -> None:
    try:
        await nursery.start(team.keep, number)
    except CannotStart as error:
        team.failure = error
        team.stopping = True
        nursery.cancel_scope.cancel()


async def _give_up_stragglers(team: _Team, scope: trio.CancelScope) -> None:
    await team.stop_requested.wait()
    await trio.sleep(team.patience)
    team.patience = 0
    scope.cancel()


def _ended(status: int) -> str:
    return f"ended with status {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"
