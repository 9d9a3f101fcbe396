"""Counter, a value that all servers share: every client can change it, and all are told.

In: a whole number to add, like ``+1`` or ``-5``, as text. Out: ``{"value": NUMBER, "people": COUNT}`` at
first and after each change, or ``{"error": TEXT}`` to the one who sent something else.

What is published is what to add, and the value at an earlier position: so every server adds the same numbers
in the same order, and one that starts later needs the newest messages only.
"""

import json
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import takewhile

import attrs
import trio

import trio_ws_app as ws

TOPIC = "counter"
KEPT = ws.History(size=1000, ttl=7 * 24 * 3600.0)
RETRY = 1.0  # seconds
WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,6}")


@asynccontextmanager
async def counter(broker: ws.Broker | None = None) -> AsyncGenerator[ws.Handler]:
    """The application: it knows the value for as long as this block."""
    watchers: ws.Registry[None]
    async with (
        ws.open_registry(broker=broker) as watchers,
        watchers.broker.watch_presence(TOPIC, lambda _: tell()) as people,
        trio.open_nursery() as nursery,
    ):
        total = Total(watchers.broker)

        def tell() -> None:
            watchers.broadcast(json.dumps({"value": total.value, "people": people.users}))

        async def handler(connection: ws.Connection) -> None:
            with watchers.register(connection):
                async with watchers.broker.join(TOPIC, None):
                    async for message in connection:
                        if WHOLE_NUMBER.fullmatch(str(message)):
                            await add(int(message), connection)
                        else:
                            await connection.send(json.dumps({"error": "send a whole number, like +1"}))

        async def add(number: int, connection: ws.Connection) -> None:
            try:
                await total.add(number)
            except ws.BrokerUnavailable:
                await connection.send(json.dumps({"error": "nothing can be added now, please try again"}))

        await total.read()
        nursery.start_soon(total.follow, tell)
        yield handler
        nursery.cancel_scope.cancel()


@attrs.define
class Total:
    """The sum of all that has been added on the topic, as far as ``position``."""

    broker: ws.Broker
    value: int = 0
    position: ws.Position | None = None

    async def add(self, number: int) -> None:
        """Have every server add a number. Raises BrokerUnavailable."""
        at = None if self.position is None else str(self.position)
        change = {"add": number, "value": self.value, "at": at}
        await self.broker.publish(TOPIC, json.dumps(change), history=KEPT)

    async def read(self) -> None:
        """Find the sum: the newest change's value, and what was added since that was true."""
        page = await self.broker.history(TOPIC, reverse=True)
        kept = [item for item in page if isinstance(item, ws.Delivery)]
        changes = (Change.of(one.message) for one in kept)
        newest = next((change for change in changes if change is not None), None)
        self.position = None
        if newest is not None:
            added = takewhile(lambda one: one.position != newest.at, kept)
            self.value = newest.value + sum(number_in(one.message) for one in added)
            self.position = kept[0].position

    async def follow(self, changed: Callable[[], object]) -> None:
        """Add what is published, for ever, and call ``changed()`` after each change."""
        while True:
            try:
                async with self.broker.subscribe(TOPIC, since=self.position, last=KEPT.size) as messages:
                    async for change in messages:
                        if isinstance(change, ws.Gap):
                            await self.read()
                            changed()
                            break
                        self.value += number_in(change)
                        self.position = messages.position
                        changed()
            except ws.BrokerUnavailable:
                await trio.sleep(RETRY)


@attrs.frozen
class Change:
    """What is added, and the value at an earlier position."""

    add: int
    value: int
    at: ws.Position | None

    @classmethod
    def of(cls, message: ws.Message) -> "Change | None":
        """The change that was published; None for what another program has published on the topic."""
        try:
            fields = json.loads(message)
            at = None if fields["at"] is None else ws.Position.parse(fields["at"])
            return cls(int(fields["add"]), int(fields["value"]), at)
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
            return None


def number_in(message: ws.Message) -> int:
    """What a message adds."""
    change = Change.of(message)
    return 0 if change is None else change.add
