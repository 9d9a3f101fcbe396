"""Every mistake of the caller's is one line on standard error and exit status 2."""

from __future__ import annotations

import errno
import sys
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from ..callbacks import leaves
from ..errors import UsageError
from ..observability.escaping import escaped
from .process import open_standard_streams, say, spare_collector

PROGRAM = "trio-ws-app"
FAILED = 1
MISTAKE = 2
INTERRUPTED = 130


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
