"""What makes a Trio run repeatable and its cheapest checkpoints visible, for the length of a block.

Trio has no public way for either, so the few lines that reach into it are all here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType

import trio
import trio._core._run as _trio_run

_SWITCH = "_ALLOW_DETERMINISTIC_SCHEDULING"

_passing: Callable[[], None] | None = None
_original_checkpoint = FunctionType(
    trio.lowlevel.checkpoint_if_cancelled.__code__, trio.lowlevel.checkpoint_if_cancelled.__globals__
)


@contextmanager
def repeatable_schedule(seed: int) -> Iterator[None]:
    """Within the block, Trio and ``random`` take the same decisions for the same seed.

    Trio shuffles the tasks that are ready at the same time. The switch is the one that
    Trio's plugin for Hypothesis sets.
    """
    trios = vars(_trio_run)
    before = random.getstate(), _trio_run._r.getstate(), trios[_SWITCH]
    random.seed(seed)
    _trio_run._r.seed(seed)
    trios[_SWITCH] = True
    try:
        yield
    finally:
        random.setstate(before[0])
        _trio_run._r.setstate(before[1])
        trios[_SWITCH] = before[2]


@contextmanager
def watching_fast_checkpoints(callback: Callable[[], None]) -> Iterator[None]:
    """Within the block, call ``callback`` before every ``trio.lowlevel.checkpoint_if_cancelled()`` looks.

    That function gives no control to Trio while nothing is cancelled, so an instrument cannot see it. Its
    code is exchanged, not its name, so that callers that imported the name are seen as well.
    """
    global _passing
    function = trio.lowlevel.checkpoint_if_cancelled
    _passing, outer_passing = callback, _passing
    function.__code__, outer_code = _watched_checkpoint.__code__, function.__code__
    try:
        yield
    finally:
        function.__code__ = outer_code
        _passing = outer_passing


async def _watched_checkpoint() -> None:
    # This code runs with the globals of Trio's function, hence the import.
    from trio_ws_app.testing import hooks

    if hooks._passing is not None:
        hooks._passing()
    await hooks._original_checkpoint()
