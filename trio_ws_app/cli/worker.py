"""One worker as its supervisor sees it: a process, a socket to hear of it, and how it ends."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Sequence

import attrs
import trio

from ..concurrency.running_time import sleep_running
from .inherited import BEATS, READY, environment_for
from .shutdown import RELOAD, STACKS

logger = logging.getLogger("trio_ws_app.supervisor")

_TIME_TO_TELL = 1.0  # seconds for a hung worker to print its stacks


@attrs.define(eq=False)
class Team:
    """What all workers have in common.

    ``command`` calls ``inherited`` to learn what it serves on; ``control`` and ``has_successor`` are handed
    on there. ``stop_timeout`` is the time that they have to end, once asked.
    """

    command: Sequence[str]
    workers: int
    control: str | None
    listeners: Sequence[socket.socket]
    stop_timeout: float
    worker_timeout: float | None = None
    has_successor: bool = False
    live: set[Worker] = attrs.field(factory=set)
    stopping: trio.Event = attrs.field(factory=trio.Event)
    signalled: bool = False

    def stop(self, number: int) -> None:
        """Hand a signal on to all, also to those that come later."""
        self.signalled = True
        self.stopping.set()
        for worker in self.live:
            worker.process.send_signal(number)


@attrs.define(eq=False)
class Worker:
    """A process that serves, or will: ``settled`` if it does (``is_ready``) or has ended; then ``ended``."""

    number: int
    team: Team
    process: trio.Process
    started_at: float
    is_ready: bool = False
    lived_for: float = 0.0
    beats: int = 0
    is_retiring: bool = False
    settled: trio.Event = attrs.field(factory=trio.Event)
    ended: trio.Event = attrs.field(factory=trio.Event)

    def __str__(self) -> str:
        return f"worker {self.number} (process {self.process.pid})"

    @property
    def status(self) -> int:
        """The exit status once it has ended, negative for a signal's number."""
        return self.process.returncode or 0

    @classmethod
    async def run(
        cls, number: int, team: Team, replaces: bool, *, task_status: trio.TaskStatus[Worker]
    ) -> None:
        """Start a process, report it, and wait until it has ended; when cancelled, it is asked to."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                lifeline, sockets = theirs.fileno(), [sock.fileno() for sock in team.listeners]
                process = await trio.lowlevel.open_process(
                    team.command,
                    env=environment_for(
                        lifeline=lifeline,
                        sockets=sockets,
                        number=number,
                        workers=team.workers,
                        control=team.control,
                        replaces=replaces,
                        has_successor=team.has_successor,
                    ),
                    pass_fds=[lifeline, *sockets],
                    start_new_session=True,  # a Ctrl-C in the terminal must not reach a worker twice
                )
            worker = cls(number, team, process, trio.current_time())
            team.live.add(worker)
            if team.signalled:
                process.terminate()  # the signal came while it was being started
            task_status.started(worker)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(worker._watch)
                    await worker._listen(ours)
                    await process.wait()
                    nursery.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):
                    await worker._end()
                team.live.discard(worker)
                worker.lived_for = trio.current_time() - worker.started_at
                worker.settled.set()
                worker.ended.set()

    async def _listen(self, sock: socket.socket) -> None:
        """Note what it says, to its end."""
        while True:
            await trio.lowlevel.wait_readable(sock)
            try:
                said = sock.recv(4096)
            except ConnectionResetError:
                return
            if not said:
                return
            self.beats += len(said)
            if said.startswith(READY):
                self.is_ready = True
                self.settled.set()

    async def _watch(self) -> None:
        """Kill it when its event loop has not turned for ``worker_timeout``, once it has served."""
        if self.team.worker_timeout is None:
            return
        await self.settled.wait()
        silent, heard = 0, self.beats
        while silent <= BEATS:
            await sleep_running(self.team.worker_timeout / BEATS)
            silent = silent + 1 if heard == self.beats and not self._has_to_end else 0
            heard = self.beats
        logger.error("%s hangs: its event loop has not turned for %g s", self, self.team.worker_timeout)
        self.process.send_signal(STACKS)
        await trio.sleep(_TIME_TO_TELL)
        self.process.kill()

    @property
    def _has_to_end(self) -> bool:
        return self.is_retiring or self.team.stopping.is_set()

    async def retire(self) -> None:
        """Have it close its connections with 1012, and wait for its end; it is killed after that time."""
        self.is_retiring = True
        self.process.send_signal(RELOAD)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._kill_in_time)
            await self.ended.wait()
            nursery.cancel_scope.cancel()

    async def _kill_in_time(self) -> None:
        await sleep_running(self.team.stop_timeout)
        self.process.kill()

    async def _end(self) -> None:
        if self.process.poll() is None:
            if not self.team.signalled:
                self.process.terminate()
                with trio.move_on_after(self.team.stop_timeout):
                    await self.process.wait()
            self.process.kill()
            await self.process.wait()


def ended_how(status: int) -> str:
    """An exit status in words."""
    return f"ended with status {status}" if status >= 0 else f"was killed by {signal.Signals(-status).name}"
