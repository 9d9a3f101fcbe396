"""What the servers of the cancellation benchmark share: the job, and a journal of what happened when.

Every event is one line, written at once, so that it is there whatever becomes of the process:
seconds of the system's monotonic clock, the connection's name, the event.
"""

from __future__ import annotations

import argparse
import logging
import os
import time

import attrs

CLEAN_UP_SECONDS = 0.01
TORN_BYTES = 10_000_000
TORN_SECONDS = 0.3
FLOOD, TORN = "/flood", "/torn"  # what the names of clients begin with that a server treats in its own way
FLOOD_MESSAGE = bytes(64 * 1024)
CLOSE_TIMEOUT = 5.0  # what every contender gets for its closing handshakes

HEARD, CONSUMER, PRODUCER, UNREGISTERED, ERROR = "heard", "consumer", "producer", "gone", "error"


@attrs.frozen
class Job:
    """``events`` is the journal's file; ``keepalive`` seconds until a ping and for its answer, 0 for none."""

    events: str
    keepalive: float
    pattern: str


def parse() -> Job:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", required=True)
    parser.add_argument("--keepalive", type=float, default=0)
    parser.add_argument("--pattern", default="")
    return Job(**vars(parser.parse_args()))


class Journal:
    """Notes events; also every ERROR record that anything logs."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        logging.getLogger().addHandler(_Errors(self))

    def note(self, connection: str, event: str) -> None:
        """Write one event."""
        os.write(self._descriptor, f"{time.monotonic():.6f} {connection} {event}\n".encode())


class _Errors(logging.Handler):
    def __init__(self, journal: Journal) -> None:
        super().__init__(logging.ERROR)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        self._journal.note(record.name, ERROR)
