"""What the user's code raises in a server, which only the server's log tells (G5)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def contained_failures() -> Iterator[list[BaseException]]:
    """Give a list to which each failure is added that the package logs as an error within the block."""
    watch = _Watch(logging.ERROR)
    logger = logging.getLogger("trio_ws_app")
    logger.addHandler(watch)
    try:
        yield watch.failures
    finally:
        logger.removeHandler(watch)


class _Watch(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.failures: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.failures.append(record.exc_info[1])
