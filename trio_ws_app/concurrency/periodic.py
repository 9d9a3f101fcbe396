"""A function that is called at a fixed rate, such as the one that broadcasts a game's state."""

from __future__ import annotations

from collections.abc import Callable

import trio

from ..callbacks import in_place


async def call_every(seconds: float, function: Callable[[int], object]) -> None:
    """Call ``function(number)`` every ``seconds``, until cancelled.

    Call n is due n times ``seconds`` after the start, so there is no drift. Those that pass while the loop
    is busy are left out, all but the latest, and ``number`` tells.

    The function is a plain one, and called in place. So it cannot wait; it sees a copy of the caller's
    context variables. When cancelled, no call is under way, since none can wait, and no other follows.

    What the function raises ends the calls, and comes out as it is.

    Raises:
        ValueError: ``seconds`` is not positive.
        TypeError: the function returned a coroutine.
    """
    if not seconds > 0:
        raise ValueError(f"calls need a positive number of seconds between them, not {seconds!r}")
    call = in_place(function)
    start = trio.current_time()
    number = 0
    while True:
        number = max(number + 1, int((trio.current_time() - start) / seconds))
        await trio.sleep_until(start + number * seconds)
        call(number)
