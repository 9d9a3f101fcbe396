"""Listening sockets: accepting in bulk, and living through a shortage of descriptors."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable

from ..wire.engine import Engine

logger = logging.getLogger("trio_ws_app.server")

_ACCEPTS_A_PASS = 64
_PAUSE = 0.1  # seconds until trying again when there are no descriptors left
_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """The endpoint of one listening socket."""

    def __init__(
        self,
        engine: Engine,
        sock: socket.socket,
        accepted: Callable[[int, object, float], None],
    ) -> None:
        self._engine = engine
        self._sock = sock
        self._accepted = accepted
        self._short = False
        self._transport = engine.listening_transport(os.dup(sock.fileno()))
        self._transport.start(self)

    def readable(self, buffer: bytearray, now: float) -> None:  # noqa: ARG002  # an endpoint's signature
        """Accept what waits, but not so much that the others have to wait."""
        for _ in range(_ACCEPTS_A_PASS):
            try:
                sock, address = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _SHORTAGE:
                    self._pause(now, error)
                # Anything else is a client that is gone already.
                return
            self._short = False
            sock.setblocking(False)
            self._accepted(sock.detach(), address, now)

    def writable(self) -> None:
        """A listening socket is never written to."""

    def failed(self) -> None:
        """Others are still welcome."""

    def _pause(self, now: float, error: OSError) -> None:
        """Neither spin nor die: look again when descriptors may have become free."""
        if not self._short:
            logger.warning("can't accept connections for now: %s", error.strerror)
        self._short = True
        self._transport.watch(False, False)
        self._engine.deadlines.at(now + _PAUSE, self._resume)

    def _resume(self, _now: float) -> None:
        self._transport.watch(True, False)

    def close(self) -> None:
        """Stop listening."""
        self._transport.close()
        self._sock.close()
