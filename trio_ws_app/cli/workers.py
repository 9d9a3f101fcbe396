"""``--workers``: the same command once more in each worker, and what they share."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial

from ..errors import UsageError
from .configuration import Configuration
from .run import announce
from .shutdown import CLEAN_UP, Shutdown
from .supervisor import MARGIN, supervise
from .systemd import Notifier
from .worker import Team


async def run_workers(
    config: Configuration, shutdown: Shutdown, notifier: Notifier, arguments: Sequence[str]
) -> None:
    """Run ``trio-ws-app`` with ``arguments`` in every worker until a signal stops them.

    Raises SystemExit, in a group, if a worker cannot start at all.
    """
    if not os.access(sys.executable, os.X_OK):
        raise UsageError(f"--workers: this user may not run {sys.executable}")
    with shutdown.receiver() as signals:
        config.listening.listen()
        with _control_directory(config) as control:
            team = Team(
                [sys.executable, "-m", "trio_ws_app", *arguments],
                config.workers,
                control,
                config.listening.sockets,
                config.settings.grace_period + CLEAN_UP + MARGIN,
                config.worker_timeout,
                config.has_successor,
            )
            await supervise(team, signals, notifier, partial(announce, config))


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
