"""The options that every benchmark has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import attrs
import click

Command = TypeVar("Command", bound=Callable[..., object])


@attrs.frozen
class Options:
    """How often, for whom, and where the results go."""

    rounds: int
    only: tuple[str, ...]
    patience: int
    bun: Path | None
    json: Path | None
    plot: Path | None


def split(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Turn ``a,b`` into ``("a", "b")`` and nothing into ``()``."""
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


def common(command: Command) -> Command:
    """Add the common options, one parameter for each field of ``Options``."""
    file = click.Path(dir_okay=False, path_type=Path)
    for decorate in (
        click.option("--plot", type=file, metavar="FILE.svg", help="Write a plot."),
        click.option("--json", type=file, metavar="FILE", help="Write everything that was measured."),
        click.option(
            "--patience",
            type=click.IntRange(0),
            default=2,
            show_default=True,
            help="Repeat a round this often while other programs take the cores.",
        ),
        click.option(
            "--bun",
            type=click.Path(exists=True, dir_okay=False, executable=True, resolve_path=True, path_type=Path),
            metavar="PATH",
            help="The bun program, where it is not on PATH.",
        ),
        click.option("--only", callback=split, metavar="NAME,...", help="Only these contenders."),
        click.option("--rounds", type=click.IntRange(1), default=5, show_default=True),
    ):
        command = decorate(command)
    return command


def choose(wanted: Sequence[str], known: Sequence[str], what: str) -> tuple[str, ...]:
    """Return ``wanted`` in the order of ``known``, everything when nothing is wanted.

    Raises:
        click.BadParameter: a name is not known; says which are.
    """
    for name in wanted:
        if name not in known:
            raise click.BadParameter(f"there is no {what} {name!r}; there are {', '.join(known)}")
    return tuple(name for name in known if not wanted or name in wanted)
