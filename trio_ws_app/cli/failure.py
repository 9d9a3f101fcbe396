"""What ends the server beside a signal: a line for each failure, with the application's own frames."""

from __future__ import annotations

import os
import traceback
from functools import cache

import trio

from ..callbacks import leaves
from ..errors import UsageError
from ..observability.escaping import escaped
from .errors import FAILED, INTERRUPTED, PROGRAM
from .process import say

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_APPS = _PACKAGE + "apps" + os.sep

# A BaseException of the application's own is a failure: a panic in Rust arrives as one.
_NO_FAILURES = (UsageError, SystemExit, KeyboardInterrupt, trio.Cancelled)


def exit_status(error: BaseException, target: str) -> int:
    """The exit status for what came out of the event loop; failures are printed.

    ``SystemExit`` means what it says, also when it comes in groups. Raises ``error`` if nothing but
    mistakes of the caller's is in it.
    """
    parts = list(leaves(error))
    failures = [part for part in parts if not isinstance(part, _NO_FAILURES)]
    for failure in failures:
        say(f"{PROGRAM}: {target} failed: {_described(failure)}", err=True)
    requests = [part for part in parts if isinstance(part, SystemExit | KeyboardInterrupt)]
    if requests:
        if isinstance(code := getattr(requests[0], "code", None), str):
            say(escaped(code), err=True)
        return requested_status(requests[0])
    if failures:
        return FAILED
    raise error


def requested_status(request: SystemExit | KeyboardInterrupt) -> int:
    """The exit status that is asked for, as the interpreter reads it: nothing is 0, and a text is 1."""
    if isinstance(request, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(request.code, str):
        return FAILED
    return request.code or 0


def _described(error: BaseException) -> str:
    """The exception in one line, then where it comes from, then the same of what caused it."""
    texts, told = [_described_alone(error)], {id(error)}
    # One that is raised out of its group is in what caused it.
    while (cause := _cause(error)) is not None and id(cause) not in told:
        texts.append(f"after {_described_alone(cause)}")
        told.add(id(cause))
        error = cause
    return "\n".join(texts)


def _described_alone(error: BaseException) -> str:
    line = escaped("".join(traceback.format_exception_only(error)).strip())
    frames = "".join(traceback.format_list(own_frames(error))).rstrip()
    return f"{line}\n{frames}" if frames else line


def _cause(error: BaseException) -> BaseException | None:
    """What ``error`` was raised from, or while it was handled; of a group, the first failure in it."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    parts = () if cause is None else leaves(cause)
    return next((part for part in parts if not isinstance(part, trio.Cancelled)), None)


def own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The application's frames; all of them if there is none of those, since then the fault may be ours."""
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if _is_own(frame.filename)] or list(frames)


def _is_own(file: str) -> bool:
    if file.startswith(_PACKAGE):
        return file.startswith(_APPS)
    return not file.startswith(_not_the_applications())


@cache
def _not_the_applications() -> tuple[str, ...]:
    import sysconfig

    libraries = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    return *(path + os.sep for path in (os.path.dirname(trio.__file__), *libraries)), "<frozen "
