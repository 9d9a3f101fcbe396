"""What systemd, and others that speak its protocol, pass to a service and want to hear from it.

Sockets that are open before the service starts (``sd_listen_fds(3)``), so that clients wait for it in the
kernel's queue, and a datagram socket for its state (``sd_notify(3)``). The variables are taken out of the
environment: they are for this process alone.
"""

from __future__ import annotations

import logging
import os
import socket
import time

import trio

from ..errors import UsageError

logger = logging.getLogger("trio_ws_app.cli")

_PATIENCE = 0.1  # seconds, for a manager whose queue is full
_FIRST = 3  # the first descriptor that is passed


def activated_sockets() -> list[socket.socket] | None:
    """The listening sockets that were passed to this process, None if it was started without.

    Raises UsageError if one of them is none: only stream sockets that listen can be served.
    """
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdecimal():
        return None
    return [_listening(descriptor) for descriptor in range(_FIRST, _FIRST + int(count))] or None


def _listening(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        raise UsageError(f"LISTEN_FDS: descriptor {descriptor} is no socket") from None
    if not listens or sock.type != socket.SOCK_STREAM:
        raise UsageError(f"LISTEN_FDS: descriptor {descriptor} does not listen: the unit needs Accept=no")
    return sock


class Notifier:
    """Tells the service manager how the service is, if there is one that wants to know."""

    def __init__(self) -> None:
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        process = os.environ.pop("WATCHDOG_PID", str(os.getpid()))
        interval = os.environ.pop("WATCHDOG_USEC", "")
        wanted = process == str(os.getpid()) and interval.isdecimal()
        self._watchdog = int(interval) / 1e6 if wanted else 0.0

    def ready(self) -> None:
        """The service serves, from the start or again."""
        self._send("READY=1")

    def reloading(self) -> None:
        """It is taking over a new configuration; ``ready`` follows."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """It closes its connections and ends."""
        self._send("STOPPING=1")

    async def keep_watchdog(self) -> None:
        """Say again and again that the event loop turns, twice as often as the manager demands."""
        if not self._watchdog:
            return
        while True:
            self._send("WATCHDOG=1")
            await trio.sleep(self._watchdog / 2)

    def _send(self, state: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_PATIENCE)
                sock.sendto(state.encode(), address)
        except OSError as problem:
            logger.warning("the service manager was not told %r: %s", state.partition("=")[0], problem)
