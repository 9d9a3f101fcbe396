"""The few functions that a compiler makes fast, in plain Python; ``primitives.pyx`` is the fast form.

Everything that differs between the compiled package and the other is in these two files. The compiled
one is taken if it is there.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import socket
from typing import Any

COMPILED = False
BLOCKED = -1  # nothing now: the caller is told when there may be something again
LOST = -2  # nothing ever again: the peer, or the way to it, is gone
_SOCKADDR = 16  # bytes of an address; the first two are its family, and AF_UNSPEC is 0


def receive(fd: int, buffer: bytearray, size: int) -> int:
    """Receive up to ``size`` bytes of a non-blocking socket: how many, 0 at the end, BLOCKED or LOST."""
    try:
        return os.readv(fd, [memoryview(buffer)[:size]])
    except (BlockingIOError, InterruptedError):
        return BLOCKED
    except OSError:
        return LOST


def send(fd: int, data: bytes | memoryview) -> int:
    """Send some of ``data`` on a non-blocking socket: how many bytes it took, BLOCKED or LOST."""
    try:
        sock = socket.socket(fileno=fd)
    except (OSError, ValueError):  # ValueError: it was closed, and is -1
        return LOST
    try:
        return sock.send(data, socket.MSG_NOSIGNAL)
    except (BlockingIOError, InterruptedError):
        return BLOCKED
    except OSError:
        return LOST
    finally:
        sock.detach()


def exit_after(seconds: float, end: bytearray, number: int) -> None:  # noqa: ARG001  # the other form's
    """End the process after ``seconds``, also while other code holds the interpreter's lock.

    Compiled, it counts only time in which the process could run, and does not return. At the end it reads
    ``end``: the exit status, and 1 if the lock is not held. If it is held, signal ``number`` is raised, and
    the exit status is 1. Here it returns, a standstill counts like other time, and the status is always 1.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)  # with status 1


def reset(fd: int) -> None:
    """Reset a TCP connection, also if other processes hold its descriptor; do nothing to other sockets."""
    # Connecting to an address of no family does that, and Python's sockets have none.
    ctypes.CDLL(None).connect(fd, bytes(_SOCKADDR), _SOCKADDR)


def shutdown(fd: int, how: int) -> None:
    """Shut down a connected socket, also for other processes that hold it; do nothing to others."""
    sock = socket.socket(fileno=fd)
    try:
        sock.shutdown(how)
    except OSError:  # the peer's reset may be news to the kernel even now
        pass
    finally:
        sock.detach()


def encode_frame(opcode: int, payload: bytes, fin: bool = True, rsv1: bool = False) -> bytes:
    """A whole unmasked frame (RFC 6455, section 5.2)."""
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 0x10000:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def unmask(data: bytearray, start: int, size: int) -> bytes:
    """The ``size`` payload bytes at ``start``, unmasked with the four bytes before them (section 5.3)."""
    return _unmasked(data[start : start + size], data[start - 4 : start])


def unmask_text(data: bytearray, start: int, size: int) -> str:
    """As ``unmask``, decoded from UTF-8; the bytes in ``data`` may be unmasked in place."""
    return unmask(data, start, size).decode()


def held_bytes(message: str | bytes) -> int:
    """How many bytes of memory the contents of a str or bytes take: 1, 2 or 4 for a character."""
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    widest = max(message)
    return len(message) * (1 if widest < "\u0100" else 2 if widest < "\U00010000" else 4)


def empty(items: list[Any]) -> None:
    """Remove all items."""
    items.clear()


class ArrivingPayload:
    """A large payload that arrives in pieces; compiled, it is unmasked meanwhile.

    ``data[start - 4 : start]`` is its mask.
    """

    def __init__(self, data: bytearray, start: int, length: int) -> None:
        self.length = self.missing = length
        self._mask = data[start - 4 : start]
        self._masked = bytearray()

    def fill(self, data: bytearray, start: int, end: int) -> int:
        """Take bytes from ``data[start:end]`` until the payload is whole; how many those were."""
        used = min(end - start, self.missing)
        self._masked += data[start : start + used]
        self.missing -= used
        return used

    def take(self) -> bytes:
        """The whole payload, once nothing of it is missing."""
        return _unmasked(self._masked, self._mask)


def _unmasked(masked: bytearray, mask: bytearray) -> bytes:
    size = len(masked)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(masked, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")
