"""``trio-ws-app publish``: from the message or the lines of standard input to the broker."""

from __future__ import annotations

import sys
from contextlib import suppress

import click
import trio

from ..broker import Broker, BrokerUnavailable, History
from ..errors import UsageError
from .broker import OpenBroker, broker_for
from .lines import InputLines


def publish(topic: str, message: str, broker: str, history: int | None, ttl: float) -> None:
    """Publish one message, or a line of standard input each, and print how many received it."""
    try:
        kept = None if history is None else History(history, ttl)
    except ValueError as problem:
        raise UsageError(f"--history: {problem}") from None
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
    async for line in InputLines(sys.stdin.fileno()):
        await broker.publish(topic, line.removesuffix("\r"), history=kept)
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
