"""What becomes of errors: a line on standard error, the application's own frames, and the exit status."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from functools import cache
from typing import Any, NoReturn

import click
import trio
from click.core import ParameterSource

from ..callbacks import leaves
from ..errors import UsageError
from ..observability.escaping import escaped
from .process import open_standard_streams, say, spare_collector

PROGRAM = "trio-ws-app"
FAILED = 1
MISTAKE = 2
INTERRUPTED = 130

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_APPS = _PACKAGE + "apps" + os.sep

# A BaseException of the application's own is a failure: a panic in Rust arrives as one.
_NO_FAILURES = (UsageError, SystemExit, KeyboardInterrupt, trio.Cancelled)


class OneLineErrors(click.Group):
    """A group of commands that reports click's errors and ``UsageError`` in one line."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line and exit, as ``click.Group.main`` in its standalone mode does."""
        open_standard_streams()
        spare_collector()
        kwargs["standalone_mode"] = False
        try:
            result = super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as help_text:
            click.echo(help_text.format_message())
            sys.exit(0)
        except click.ClickException as problem:
            _exit_with(_message(problem))
        except click.Abort:
            sys.exit(INTERRUPTED)
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EIO) or problem.filename is not None:
                raise
            _exit_with(f"cannot write the output: {problem.strerror}", FAILED)
        except BaseException as problem:
            found = mistakes(problem)
            if not found:
                raise
            _exit_with(str(found[0]))
        sys.exit(result if isinstance(result, int) else 0)


def mistakes(problem: BaseException) -> list[UsageError]:
    """The caller's mistakes, if nothing else than mistakes went wrong; nurseries wrap them in groups."""
    parts = list(leaves(problem))
    found = [part for part in parts if isinstance(part, UsageError)]
    return found if len(found) == len(parts) else []


def _message(problem: click.ClickException) -> str:
    """What click says, about the variable if it is one that has the bad value."""
    if isinstance(problem, click.BadParameter) and problem.ctx and problem.param and problem.param.name:
        source = problem.ctx.get_parameter_source(problem.param.name)
        if source is ParameterSource.ENVIRONMENT and isinstance(problem.param.envvar, str):
            problem.param_hint = problem.param.envvar
    return problem.format_message()


def _exit_with(message: str, status: int = MISTAKE) -> NoReturn:
    say(f"{PROGRAM}: {escaped(' '.join(message.split()))}", err=True)
    sys.exit(status)


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
        if not isinstance(code := getattr(requests[0], "code", None), int | None):
            say(escaped(str(code)), err=True)
        return requested_status(requests[0])
    if failures:
        return FAILED
    raise error


def requested_status(request: SystemExit | KeyboardInterrupt) -> int:
    """The exit status that is asked for, as the interpreter reads it: 0 for nothing, and 1 for no number."""
    if isinstance(request, KeyboardInterrupt):
        return INTERRUPTED
    if request.code is None:
        return 0
    return request.code if isinstance(request.code, int) else FAILED


def _described(error: BaseException) -> str:
    """The exception in one line, then where it comes from, then the same of what caused it."""
    texts: dict[int, str] = {}
    part: BaseException | None = error
    while part is not None and id(part) not in texts:  # one that is raised out of its group is in its cause
        line = escaped("".join(traceback.format_exception_only(part)).strip())
        frames = "".join(traceback.format_list(own_frames(part)))
        texts[id(part)] = f"{line}\n{frames}".rstrip()
        part = _cause(part)
    return "\nafter ".join(texts.values())


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
