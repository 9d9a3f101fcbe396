"""What a worker gets from its supervisor, and how it shows that it is alive."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress

import attrs
import trio

READY, BEAT = b"1", b"."
BEATS = 4  # in the time after which a worker without one counts as hung
_VARIABLE = "TRIO_WS_APP_WORKER"  # how a process learns that it is a worker


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
        os.write(self.lifeline, READY)

    async def beat(self, worker_timeout: float) -> None:
        """Tell it again and again that the event loop turns."""
        with socket.socket(fileno=os.dup(self.lifeline)) as sock:
            while True:
                with suppress(OSError):  # it does not read just now, or is gone
                    sock.send(BEAT, socket.MSG_DONTWAIT)
                await trio.sleep(worker_timeout / BEATS)


def environment_for(**told: object) -> dict[str, str]:
    """The variables from which a worker learns what it has inherited: descriptors by their numbers."""
    return os.environ | {_VARIABLE: json.dumps(told)}


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
