"""``python -m benchmarks``: one subcommand a benchmark."""

from __future__ import annotations

import signal
import sys

import click

from . import asgi, cancellation, channels, echo, fanout, handshake, http, idle, pings, pubsub, soak, topics


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Measure trio_ws_app against its peers."""


for module in (
    echo,
    fanout,
    idle,
    pings,
    handshake,
    http,
    asgi,
    pubsub,
    topics,
    channels,
    soak,
    cancellation,
):
    main.add_command(module.command)

if __name__ == "__main__":
    # Leave as after an interrupt, so that the processes that were started are stopped.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    main(prog_name="python -m benchmarks")
