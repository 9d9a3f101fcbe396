"""``trio-ws-app publish``: one message, or a line of standard input each, to a topic."""

from __future__ import annotations

from typing import Any

import click

from .options import CommandWithVariables, option, text

TTL = 300.0
_EXAMPLES = """\b
Examples:
  trio-ws-app publish news "We are open" --broker redis://localhost:6379
  trio-ws-app publish news "We are open" --history 100 --ttl 3600 --broker redis://localhost:6379
  tail -f events.log | trio-ws-app publish events - --broker redis://localhost:6379
"""


@click.command("publish", cls=CommandWithVariables, epilog=_EXAMPLES)
@click.argument("topic", type=text)
@click.argument("message", type=text)
@option(
    "--broker", "Redis that the servers use: redis://, rediss:// or unix://.", required=True, metavar="URL"
)
@click.option(
    "--history",
    type=int,
    metavar="N",
    help="Keep the last N messages of the topic for subscribers that come later.",
)
@click.option(
    "--ttl",
    type=float,
    metavar="SECONDS",
    help=f"With --history: keep them this long after the last one. [default: {TTL:g}]",
)
def publish_command(history: int | None, ttl: float | None, **values: Any) -> None:
    """Publish MESSAGE to TOPIC; with - for MESSAGE, every line of standard input.

    Every follower of the topic gets it, on every server that was started with the same --broker. How many
    processes received it is printed.
    """
    from .publishing import publish

    if ttl is not None and history is None:
        raise click.UsageError("--ttl is for what --history keeps")
    publish(history=history, ttl=TTL if ttl is None else ttl, **values)
