"""What runs: the version, whether the wire is compiled, and on which Python, Trio and platform."""

from __future__ import annotations

import logging
import platform

import click
import trio

from ..primitives import COMPILED

logger = logging.getLogger("trio_ws_app.cli")


def description() -> str:
    """One line for ``--version`` and for reports of faults."""
    from importlib.metadata import version  # takes long to import

    build = "compiled" if COMPILED else "not compiled"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.machine()}"
    return f"trio-ws-app {version('trio-ws-app')}, {build}, {python}, Trio {trio.__version__}, {system}"


def show_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    """Print the description and exit: the callback of ``--version``."""
    if wanted and not context.resilient_parsing:
        click.echo(description())
        context.exit()


def report_missing_extensions() -> None:
    """Log one line if there are no extension modules, since an installer hides a compilation that failed."""
    if not COMPILED:
        logger.info("not compiled, so slower: 'pip install --verbose' says what the compiler met")
