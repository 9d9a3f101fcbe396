"""``--workers``: the same command once more in each worker, and what they share."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import click

from ..errors import UsageError
from .errors import MISTAKE, PROGRAM
from .plan import Plan
from .run import announce
from .supervisor import CannotStart, supervise


async def run_workers(plan: Plan, arguments: Sequence[str]) -> int:
    """Run ``trio-ws-app`` with ``arguments`` in every worker until a signal stops them.

    Returns the exit status: not 0 where a worker cannot start at all, with one line that says so.
    """
    async with plan.listeners as listeners:
        with _control(plan) as control:
            try:
                await supervise(
                    [sys.executable, "-m", "trio_ws_app", *arguments],
                    plan.workers,
                    [listener.socket for listener in listeners],
                    patience=plan.settings.grace_period + 1,
                    on_ready=partial(announce, plan, listeners),
                    control=control,
                )
            except CannotStart as problem:
                if problem.status == MISTAKE:
                    return MISTAKE  # the worker has said what is wrong
                click.echo(f"{PROGRAM}: {problem}", err=True)
                return 1
    return 0


@contextmanager
def _control(plan: Plan) -> Iterator[str | None]:
    """The directory of the workers' control sockets, where somebody wants to look in."""
    if plan.control is not None:
        try:
            os.makedirs(plan.control, mode=0o700, exist_ok=True)
        except OSError as problem:
            raise UsageError(
                f"--control: cannot make the directory {plan.control}: {problem.strerror}"
            ) from None
        yield plan.control
    elif plan.watching.lag:  # metrics are asked for: whoever answers asks the others
        with tempfile.TemporaryDirectory() as directory:
            yield directory
    else:
        yield None
