"""A market ticker: each symbol is a topic, and every client watches those that it likes.

A slow client gets the newest price of each symbol, and never a queue of old ones; one that has just come gets
the last price at once. The prices come from a feed: in the server if that is a single process, else from a
program of its own, ``python market.py REDIS``, which all workers hear through Redis.
"""

import json
import random
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import attrs
import trio

import trio_ws_app as ws
from trio_ws_app.pages import static_files

OPENED_AT = {
    "ACME": 101.5,
    "BOLT": 23.2,
    "COAL": 61.0,
    "DUNE": 7.4,
    "ECHO": 245.0,
    "FLUX": 88.8,
    "GOLD": 1910.0,
}
LAST_PRICE = ws.History(size=1, ttl=3600.0)
INTERVAL = 0.1  # seconds between two prices of the feed


@attrs.frozen
class Wish:
    """What a client asks for: to watch a symbol from now on, or not any more."""

    symbol: str
    watch: bool


@asynccontextmanager
async def application(broker: ws.Broker) -> AsyncGenerator[ws.App]:
    """The application: its clients are connected for as long as this block."""
    clients: ws.Registry[set[str]]
    async with ws.open_registry(broker=broker, overflow="latest", on_gap=stale) as clients:

        async def serve(connection: ws.Connection) -> None:
            with clients.register(connection, set()) as client:
                await connection.send_json({"symbols": list(OPENED_AT)})
                async for wish in ws.json_messages(connection, as_wish, on_error=sorry):
                    await fulfil(client, wish)

        async with trio.open_nursery() as nursery:
            if not broker.shared:
                nursery.start_soon(feed, broker)
            yield ws.App(serve, process_request=static_files(Path(__file__).parent / "page"))
            nursery.cancel_scope.cancel()


async def fulfil(client: ws.Member[set[str]], wish: Wish) -> None:
    watched = client.info
    if wish.watch and wish.symbol not in watched:
        await client.subscribe(topic_of(wish.symbol), last=True)
        watched.add(wish.symbol)
    elif not wish.watch and wish.symbol in watched:
        watched.remove(wish.symbol)
        await client.unsubscribe(topic_of(wish.symbol))


def as_wish(value: object) -> Wish:
    """The wish that a message stands for. Raises ValueError if it is none."""
    match value:
        case {"watch": str(symbol)} if symbol in OPENED_AT:
            return Wish(symbol, watch=True)
        case {"unwatch": str(symbol)} if symbol in OPENED_AT:
            return Wish(symbol, watch=False)
    raise ValueError('send {"watch": SYMBOL} or {"unwatch": SYMBOL}')


def topic_of(symbol: str) -> str:
    return f"price:{symbol}"


def stale(topic: str, _gap: ws.Gap) -> str:
    """What the watchers of a symbol are told when Redis was away: the price may have changed meanwhile."""
    return json.dumps({"symbol": topic.removeprefix("price:"), "stale": True})


def sorry(why: object) -> str:
    return json.dumps({"sorry": str(why)})


async def feed(broker: ws.Broker) -> None:
    """Publish prices, for ever: a random walk that began at those of this morning."""
    prices = dict(OPENED_AT)
    while True:
        symbol = random.choice(list(prices))
        prices[symbol] *= 1 + random.gauss(0, 0.003)
        price = {
            "symbol": symbol,
            "price": round(prices[symbol], 2),
            "open": OPENED_AT[symbol],
            "time": time.time(),
        }
        with suppress(ws.BrokerUnavailable):  # the next price makes up for this one
            await broker.publish(topic_of(symbol), json.dumps(price), history=LAST_PRICE)
        await trio.sleep(INTERVAL)


async def main() -> None:
    """Be the feed of servers that share a Redis."""
    try:
        async with ws.open_redis_broker(sys.argv[1]) as broker:
            await feed(broker)
    except ws.BrokerUnavailable as error:
        sys.exit(str(error))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        trio.run(main)
