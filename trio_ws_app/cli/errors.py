"""Every mistake of the caller's is one line on standard error and exit status 2."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from ..errors import UsageError

PROGRAM = "trio-ws-app"
MISTAKE = 2
INTERRUPTED = 130


class OneLineErrors(click.Group):
    """A group of commands that reports click's errors and ``UsageError`` in one line."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line and exit, as ``click.Group.main`` in its standalone mode does."""
        kwargs["standalone_mode"] = False
        try:
            result = super().main(*args, **kwargs)
        except click.exceptions.NoArgsIsHelpError as help_text:
            click.echo(help_text.format_message())
            sys.exit(0)
        except click.ClickException as problem:
            _exit_with(problem.format_message())
        except click.Abort:
            sys.exit(INTERRUPTED)
        except BaseException as problem:
            mistakes = list(_mistakes(problem))
            if not mistakes:
                raise
            _exit_with(str(mistakes[0]))
        sys.exit(result if isinstance(result, int) else 0)


def _mistakes(problem: BaseException) -> Iterator[UsageError]:
    """The caller's mistakes, when nothing else than mistakes went wrong; nurseries wrap them in groups."""
    if isinstance(problem, UsageError):
        yield problem
    elif isinstance(problem, BaseExceptionGroup):
        _, others = problem.split(UsageError)
        if others is None:
            for inner in problem.exceptions:
                yield from _mistakes(inner)


def _exit_with(message: str) -> NoReturn:
    click.echo(f"{PROGRAM}: {' '.join(message.split())}", err=True)
    sys.exit(MISTAKE)
