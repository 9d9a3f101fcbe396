"""Where the log of the command line goes: standard error, which may be unread, full, broken or closed."""

from __future__ import annotations

import logging
import os
import select
import threading
import warnings
from collections import deque
from contextlib import suppress
from functools import partial

from ..errors import UsageError
from ..observability.logs import JsonFormatter, TextFormatter, add_connection

STANDARD_ERROR = 2
MAX_WAITING = 1024 * 1024  # bytes
FLUSH_TIMEOUT = 0.3

logger = logging.getLogger("trio_ws_app.log")


class LogWriter(logging.Handler):
    """Writes lines from a thread of its own, so that an unread pipe stops only the log.

    They go to a descriptor, or are appended to the file ``path``, which is begun anew when it was renamed or
    removed. Raises UsageError if it can't be opened.

    At most ``max_waiting`` bytes wait. Records beyond that, and records that cannot be written, are dropped
    and counted; how many there were is said as soon as a line can be written again.
    """

    def __init__(
        self, descriptor: int = STANDARD_ERROR, max_waiting: int = MAX_WAITING, path: str | None = None
    ) -> None:
        try:
            self._descriptor = descriptor if path is None else _open(path)
            # The application may go to another directory.
            self._path = None if path is None else os.path.abspath(path)
        except OSError as problem:
            raise UsageError(f"--log-file: cannot open {path}: {problem.strerror}") from None
        super().__init__()
        why = "nothing read them" if path is None else "they could not be written"
        self._lost = f"%d log records were lost: {why}"
        self._max_waiting = max_waiting
        self._reset()
        os.register_at_fork(after_in_child=self._reset)  # threads, and what waits, stay with the parent

    def _reset(self) -> None:
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        self._dropped = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        line = self._line(record)
        with self._changed:
            if self._waiting + len(line) > self._max_waiting:
                self._dropped += 1
                return
            self._lines.append(line)
            self._waiting += len(line)
            self._changed.notify_all()
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._write, name="log", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # since Python 3.12 none starts while the interpreter ends
            write_all(self._destination(), b"".join(self._lines))
            self._lines.clear()
            self._waiting = 0
        else:
            self._thread = thread

    def flush(self, timeout: float = FLUSH_TIMEOUT) -> None:
        """Wait until everything is written, or for ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, timeout)

    def _destination(self) -> int:
        """Where to write now; the old file as long as there can't be a new one."""
        if self._path is not None:
            with suppress(OSError):
                if not _is_at(self._path, self._descriptor):
                    before, self._descriptor = self._descriptor, _open(self._path)
                    os.close(before)
        return self._descriptor

    def _line(self, record: logging.LogRecord) -> bytes:
        try:
            text = self.format(record)
        except Exception as error:
            place = f"{record.pathname}:{record.lineno}"
            text = self.format(_record("a record from %s cannot be shown: %r", place, error))
        return (text + "\n").encode(errors="backslashreplace")

    def _write(self) -> None:
        broken_off = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines)
                line = self._lines.popleft()
            left = write_all(self._destination(), b"\n" * broken_off + line)
            broken_off = left > 0 and (broken_off or left < len(line))
            with self._changed:
                self._waiting -= len(line)
                self._dropped += left > 0
                if not left and self._dropped and not self._lines:
                    notice = self._line(_record(self._lost, self._dropped))
                    self._dropped = 0
                    self._lines.append(notice)
                    self._waiting += len(notice)
                self._changed.notify_all()


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def write_all(descriptor: int, data: bytes) -> int:
    """Write ``data``, waiting as long as that takes; how much is left if the descriptor is broken or full."""
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            select.select([], [descriptor], [])
        except OSError:
            break
    return len(data)


def configure(level: str, log_format: str, handler: logging.Handler, worker: int | None = None) -> None:
    """Send records of ``level`` and above, the application's too, and warnings to ``handler``.

    With ``worker``, the number of this process among several, each record has it as a field.
    """
    if worker is not None:
        handler.addFilter(partial(_name_worker, worker))
    handler.addFilter(add_connection)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    warnings.showwarning = _log_warning


def _name_worker(worker: int, record: logging.LogRecord) -> bool:
    record.__dict__.setdefault("worker", worker)
    return True


def _record(message: str, *arguments: object) -> logging.LogRecord:
    return logger.makeRecord(logger.name, logging.WARNING, __file__, 0, message, arguments, None)


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object, **__: object
) -> None:
    hint = ": write 'await' before the call" if "was never awaited" in str(message) else ""
    place = {"place": f"{filename}:{lineno}"}
    logging.getLogger("py.warnings").warning("%s: %s%s", category.__name__, message, hint, extra=place)
