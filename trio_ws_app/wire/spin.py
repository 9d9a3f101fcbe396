"""Whether it is worth polling for the next message instead of falling asleep."""

from __future__ import annotations

import sys
from time import monotonic
from types import FrameType

import trio

_LONGEST = 50e-6  # seconds of polling
_SOON = 100e-6  # seconds after Trio began to wait, part of which the waking up took
_IN_A_ROW = 2  # times that the same connection was ready alone, and soon
_REST = 8  # as many times more after it was not, in vain


class Spin:
    """Decides how long to poll, from how the last messages came.

    Falling asleep and being woken takes longer than an echo, so if one connection is ready again and
    again, and soon, polling halves its latency. If several are, sleeping lets their messages add up, which is
    worth more. Never in guest mode, since the host's loop would stand still.
    """

    __slots__ = ("_allowed", "_in_a_row", "_last", "_waiting_since")

    def __init__(self) -> None:
        self._allowed = _is_under_trio_run(sys._getframe())
        self._waiting_since = 0.0  # since the last message; 0 while Trio does not wait
        self._last = -1  # the descriptor that was ready alone
        self._in_a_row = 0

    def note(self, count: int, first: int) -> None:
        """``count`` descriptors were ready at once, ``first`` among them."""
        again = count == 1 and first == self._last and self._waiting_since != 0
        if again and monotonic() - self._waiting_since < _SOON:
            self._in_a_row += 1
        else:
            self._in_a_row = 0
        if count == 1:
            self._last = first
        self._waiting_since = 0.0

    def seconds(self, timeout: float) -> float:
        """Trio is about to wait for ``timeout`` seconds: how long to poll before that."""
        if not self._allowed:
            return 0.0
        if self._waiting_since == 0:
            self._waiting_since = monotonic()
        return min(timeout, _LONGEST) if self._in_a_row >= _IN_A_ROW else 0.0

    def in_vain(self) -> None:
        """Nothing came while polling."""
        self._in_a_row = -_REST


def _is_under_trio_run(frame: FrameType | None) -> bool:
    """Whether ``trio.run`` is on the stack: in guest mode the host's loop is."""
    while frame is not None:
        if frame.f_code is trio.run.__code__:
            return True
        frame = frame.f_back
    return False
