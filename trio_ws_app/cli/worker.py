"""One worker, from within and as its supervisor sees it: what it gets, how it is heard of, how it ends."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress

import attrs
import trio

from ..concurrency.running_time import sleep_running, wait_running
from .shutdown import STACKS

logger = logging.getLogger("trio_ws_app.supervisor")

_READY, _BEAT = b"1", b"."
_BEATS = 4  # in the time after which a worker without one counts as hung
_VARIABLE = "TRIO_WS_APP_INHERITED"  # how a process learns that it is a worker
_TIME_TO_TELL = 1.0  # seconds for a hung worker to print its stacks


@attrs.frozen
class Inherited:
    """What a worker gets: listening sockets, and a socket whose other end its supervisor holds open.

    ``number`` is its own among ``workers``, from 1. ``control`` is a directory for sockets by which the
    workers can ask each other, or None. ``replaces`` says whether another one may serve in its place still,
    until this one does; ``has_successor`` whether others accept on the sockets after the supervisor's end.
    """

    number: int
    workers: int
    control: str | None
    sockets: list[socket.socket]
    lifeline: int
    replaces: bool
    has_successor: bool

    def announce(self) -> None:
        """Tell the supervisor that this worker serves."""
        with suppress(OSError):  # it is gone, which ends this process
            os.write(self.lifeline, _READY)

    async def beat(self, worker_timeout: float) -> None:
        """Tell it again and again that the event loop turns."""
        with socket.socket(fileno=os.dup(self.lifeline)) as sock:
            while True:
                with suppress(OSError):  # it does not read just now, or is gone
                    sock.send(_BEAT, socket.MSG_DONTWAIT)
                await trio.sleep(worker_timeout / _BEATS)


def inherited() -> Inherited | None:
    """What this process has inherited if it is a worker, else None. To be called once."""
    text = os.environ.pop(_VARIABLE, None)
    if text is None:
        return None
    told = json.loads(text)
    for descriptor in (told["lifeline"], *told["sockets"]):
        os.set_inheritable(descriptor, False)
    told["sockets"] = [socket.socket(fileno=descriptor) for descriptor in told["sockets"]]
    return Inherited(**told)


@attrs.define(eq=False)
class Team:
    """What all workers have in common.

    ``command`` calls ``inherited`` to learn what it serves on; ``control`` and ``has_successor`` are handed
    on there. ``stop_timeout`` is the time that they have to end, once asked; then ``status`` is the highest
    exit status of those that have served.
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
    status: int = 0

    def stop(self, number: int) -> None:
        """Hand a signal on to all, also to those that come later; those that retire heed the second one."""
        for worker in self.live:
            if self.stopping.is_set() or not worker.is_retiring:
                worker.process.send_signal(number)
        self.stopping.set()


@attrs.define(eq=False)
class Worker:
    """A process that serves, or will: ``settled`` if it does (``is_ready``) or has ended; then ``ended``."""

    number: int
    team: Team
    process: trio.Process
    started_at: float
    is_ready: bool = False
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

    @property
    def ended_how(self) -> str:
        """The exit status in words."""
        if self.status >= 0:
            return f"ended with status {self.status}"
        number = -self.status  # those between SIGRTMIN and SIGRTMAX have no name
        return f"was killed by {signal.Signals(number).name if number in set(signal.Signals) else number}"

    @classmethod
    async def run(
        cls, number: int, team: Team, replaces: bool, *, task_status: trio.TaskStatus[Worker]
    ) -> None:
        """Start a process, report it, and wait until it has ended; when cancelled, it is asked to."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                descriptors = [theirs.fileno(), *(sock.fileno() for sock in team.listeners)]
                inherits = {
                    "lifeline": descriptors[0],
                    "sockets": descriptors[1:],
                    "number": number,
                    "workers": team.workers,
                    "control": team.control,
                    "replaces": replaces,
                    "has_successor": team.has_successor,
                }
                process = await trio.lowlevel.open_process(
                    team.command,
                    env=os.environ | {_VARIABLE: json.dumps(inherits)},
                    pass_fds=descriptors,
                    start_new_session=True,  # a Ctrl-C in the terminal must not reach a worker twice
                )
            worker = cls(number, team, process, trio.current_time())
            team.live.add(worker)
            if team.stopping.is_set():
                process.terminate()  # the signal came while it was being started
            task_status.started(worker)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(worker._watch)
                    nursery.start_soon(worker._listen, ours)  # a child that it forks may keep the other end
                    await process.wait()
                    nursery.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):
                    await worker._end()
                team.live.discard(worker)
                if team.stopping.is_set() and worker.is_ready:
                    team.status = max(team.status, worker.status)
                worker.settled.set()
                worker.ended.set()

    async def _listen(self, sock: socket.socket) -> None:
        """Note what it says, to its end."""
        with suppress(trio.BrokenResourceError):
            async for said in trio.SocketStream(trio.socket.from_stdlib_socket(sock)):
                self.beats += len(said)
                if said.startswith(_READY):
                    self.is_ready = True
                    self.settled.set()

    async def _watch(self) -> None:
        """Kill it when its event loop has not turned for ``worker_timeout``, once it has served."""
        if self.team.worker_timeout is None:
            return
        await self.settled.wait()
        silent, heard = 0, self.beats
        while silent <= _BEATS:
            await sleep_running(self.team.worker_timeout / _BEATS)
            has_to_end = self.is_retiring or self.team.stopping.is_set()
            silent = silent + 1 if heard == self.beats and not has_to_end else 0
            heard = self.beats
        logger.error("%s hangs: its event loop has not turned for %g s", self, self.team.worker_timeout)
        self.process.send_signal(STACKS)
        await trio.sleep(_TIME_TO_TELL)
        self.process.kill()

    async def retire(self) -> None:
        """Have it close its connections with 1012, and wait for its end; it is killed after that time."""
        self.is_retiring = True
        self.process.send_signal(signal.SIGHUP)
        if not await wait_running(self.ended, self.team.stop_timeout):
            self.process.kill()
            await self.ended.wait()

    async def _end(self) -> None:
        if self.process.poll() is None:
            if not self.team.stopping.is_set():
                self.process.terminate()
                with trio.move_on_after(self.team.stop_timeout):
                    await self.process.wait()
            self.process.kill()
            await self.process.wait()
