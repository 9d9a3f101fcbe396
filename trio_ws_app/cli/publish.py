"""``trio-ws-app publish``: one message, or a line of standard input each, to a topic."""

from __future__ import annotations

import sys
from contextlib import suppress

import click
import trio

from ..broker import Broker, BrokerUnavailable, History
from ..broker.history import MAX_SIZE
from ..errors import UsageError
from .broker import OpenBroker, broker_for
from .options import FloatRange, IntRange, variable

_EXAMPLES = """\b
Examples:
  trio-ws-app publish news "We are open" --broker redis://localhost:6379
  trio-ws-app publish news "We are open" --history 100 --ttl 3600 --broker redis://localhost:6379
  tail -f events.log | trio-ws-app publish events - --broker redis://localhost:6379
"""


@click.command("publish", epilog=_EXAMPLES)
@click.argument("topic")
@click.argument("message")
@click.option(
    "--broker",
    required=True,
    envvar=variable("broker"),
    metavar="URL",
    help="Redis that the servers use: redis://, rediss:// or unix://.",
)
@click.option(
    "--history",
    type=IntRange(1, MAX_SIZE),
    metavar="N",
    help="Keep the last N messages of the topic for subscribers that come later.",
)
@click.option(
    "--ttl",
    type=FloatRange(0.001, 1e9, max_open=True),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="With --history: keep them this long after the last one.",
)
def publish_command(topic: str, message: str, broker: str, history: int | None, ttl: float) -> None:
    """Publish MESSAGE to TOPIC; with - for MESSAGE, every line of standard input.

    Every follower of the topic gets it, on every server that was started with the same --broker. How many
    processes received it is printed.
    """
    kept = None if history is None else History(history, ttl)
    trio.run(_publish, topic, message, broker_for(broker), kept)


async def _publish(topic: str, message: str, open_broker: OpenBroker, kept: History | None) -> None:
    async with open_broker() as broker:
        if not broker.shared:
            raise UsageError("--broker: publishing needs one that is shared, such as redis://localhost:6379")
        try:
            if message == "-":
                count = await _publish_lines(broker, topic, kept)
                what = f"{_counted(count, 'message')} published, the last one received by "
            else:
                await broker.publish(topic, message, history=kept)
                what = "received by "
            await _say_received(broker, topic, what)
        except BrokerUnavailable as problem:
            raise UsageError(f"not published: {problem}") from None


async def _publish_lines(broker: Broker, topic: str, kept: History | None) -> int:
    count = 0
    async for line in trio.wrap_file(sys.stdin):
        await broker.publish(topic, line.rstrip("\n"), history=kept)
        count += 1
    return count


async def _say_received(broker: Broker, topic: str, what: str) -> None:
    from ..broker.redis import RedisBroker  # needs an extra

    assert isinstance(broker, RedisBroker)  # no other one is shared
    with suppress(BrokerUnavailable):  # it is published all the same
        count = await broker.subscribers(topic)
        click.echo(what + _counted(count, "process") + ("" if count else f": none follows {topic!r} now"))


def _counted(number: int, noun: str) -> str:
    plural = "es" if noun.endswith("s") else "s"
    return f"{number} {noun if number == 1 else noun + plural}"
