"""Development: a server in a child process that starts anew when the code below a directory changes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import trio

from .options import variable
from .process import current_directory, say
from .shutdown import Shutdown

INTERVAL = 0.3
STOP_TIMEOUT = 1.0  # seconds after each of two signals
_LIFELINE = variable("lifeline")
_NOT_OURS = {"__pycache__", "node_modules", "site-packages"}


def restart_on_change(shutdown: Shutdown) -> None:
    """Run this command, less ``--reload``, until a signal.

    On a change the clients are told that the service restarts (1012); handlers get a second to end.
    """
    shutdown.hold(grace_period=2 * STOP_TIMEOUT)
    trio.run(_supervise, shutdown, Path(current_directory()))


def inherited_lifeline() -> int | None:
    """In a server that ``--reload`` has started: the descriptor whose other end that process holds open."""
    text = os.environ.pop(_LIFELINE, None)
    if text is None:
        return None
    os.set_inheritable(int(text), False)
    return int(text)


async def _supervise(shutdown: Shutdown, directory: Path) -> None:
    with shutdown.receiver() as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_restart_on_change, directory)
            await anext(signals)
            nursery.cancel_scope.cancel()


async def _restart_on_change(directory: Path) -> None:
    command = [sys.executable, *(word for word in sys.orig_argv[1:] if word != "--reload")]
    environment = {name: value for name, value in os.environ.items() if name != variable("reload")}
    while True:
        stamps = dict(_stamps(directory))
        lifeline, held = os.pipe()
        # A session of its own: a Ctrl-C in the terminal must not reach the server twice.
        child = await trio.lowlevel.open_process(
            command,
            env=environment | {_LIFELINE: str(lifeline)},
            pass_fds=[lifeline],
            start_new_session=True,
        )
        os.close(lifeline)
        try:
            while dict(_stamps(directory)) == stamps:  # noqa: ASYNC110  # files set no event
                await trio.sleep(INTERVAL)
            say("the code has changed, starting anew", err=True)
            await _end(child, signal.SIGHUP)
        finally:
            with trio.CancelScope(shield=True):
                await _end(child, signal.SIGTERM)
            os.close(held)


async def _end(child: trio.Process, number: signal.Signals) -> None:
    for _ in range(2):
        if child.poll() is not None:
            return
        child.send_signal(number)
        with trio.move_on_after(STOP_TIMEOUT):
            await child.wait()
    child.kill()


def _stamps(directory: Path) -> Iterator[tuple[str, int]]:
    for folder, folders, names in os.walk(directory):
        folders[:] = [name for name in folders if _is_watched(folder, name)]
        for name in names:
            if name.endswith(".py"):
                path = os.path.join(folder, name)
                try:
                    stamp = os.stat(path).st_mtime_ns
                except OSError:  # a dangling link, as Emacs makes them, or removed just now
                    continue
                yield path, stamp


def _is_watched(folder: str, name: str) -> bool:
    if name.startswith(".") or name in _NOT_OURS:
        return False
    return not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
