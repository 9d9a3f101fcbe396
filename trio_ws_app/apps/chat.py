"""Chat, a topic with a history and presence: what one says reaches all the others, in every process.

Plain text, made for people and easy for programs. In: first your name, then what you say, at most 4000
characters at once; ``/who`` asks who is here. Out, one message each: ``NAME: TEXT`` (names have neither
blanks nor colons), and notices, which start with a star: ``* your name?``, ``* you are NAME``, ``* here:
NAME, NAME``, ``* NAME joined``, ``* NAME left``, ``* messages may be missing here``. The last 50 lines come
first.

A program that comes back asks with ``?id=ID``, a secret text of its own. Each line that is kept then has
``@POSITION`` and a blank in front, its own lines come too, and ``&since=POSITION`` brings what it has missed
instead of the last 50 lines. Its name stays its own for some seconds while it is away.
"""

import hashlib
import itertools
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import trio_ws_app as ws

TOPIC = "chat"
HISTORY = {TOPIC: ws.History(size=500, ttl=24 * 3600.0)}
FIRST_LINES = 50
MOST_TEXT = 4000  # characters
LINGER = 5.0


@asynccontextmanager
async def chat(broker: ws.Broker | None = None) -> AsyncGenerator[ws.Handler]:
    """The application: its room lives as long as this block."""
    async with open_room(broker) as people, open_room(people.broker, at_position) as programs:

        async def handler(connection: ws.Connection) -> None:
            query = connection.request.query
            since = ws.Position.parse(query["since"]) if "since" in query else None
            await connection.send("* your name?")
            name = free_name(await connection.receive(), set())
            room = programs if "id" in query else people
            with room.register(connection, "") as member:
                async with AsyncExitStack() as block:
                    name = await come_in(block, member, room, name, since, proof_in(query))
                    member.info = name
                    await connection.send(f"* you are {name}")
                    await connection.send(await who(room))
                    async for message in connection:
                        await hear(message, name, connection, room)

        async def hear(
            message: ws.Message, name: str, connection: ws.Connection, room: ws.Registry[str]
        ) -> None:
            try:
                if message == "/who":
                    await connection.send(await who(room))
                elif len(message) > MOST_TEXT:
                    await connection.send(f"* at most {MOST_TEXT} characters at once, please")
                else:
                    author = [connection] if room is people else []
                    await room.publish(TOPIC, f"{name}: {text(message)}", exclude=author)
            except ws.BrokerUnavailable:
                await connection.send("* the others cannot be reached now, please say that again later")

        yield handler


def open_room(
    broker: ws.Broker | None, envelope: Callable[[str, ws.Message, ws.Position | None], str] | None = None
) -> AbstractAsyncContextManager[ws.Registry[str]]:
    """A registry whose members are told of each other, and where lines may be missing."""
    return ws.open_registry(
        broker=broker,
        history=HISTORY,
        envelope=envelope,
        on_gap=lambda *_: "* messages may be missing here",
        on_presence=lambda _, event: f"* {event.user} {'joined' if isinstance(event, ws.Join) else 'left'}",
    )


async def come_in(
    block: AsyncExitStack,
    member: ws.Member[str],
    room: ws.Registry[str],
    wanted: str,
    since: ws.Position | None,
    proof: str | None,
) -> str:
    """Follow the chat in ``block`` under the wanted name, or a free one like it, which is returned."""
    present = await room.presence(TOPIC)
    own = {one.user for one in present if proof is not None and proof_of(one) == proof}
    taken = {one.user for one in present} - own
    while True:
        name = free_name(wanted, taken)
        following = member.follow(
            TOPIC,
            since=since,
            last=FIRST_LINES,
            presence={"key": name, "proof": proof},
            linger=0.0 if proof is None else LINGER,
            exclusive=name not in own,
        )
        try:
            await block.enter_async_context(following)
        except ws.AlreadyPresent:
            taken.add(name)
        else:
            return name


async def who(room: ws.Registry[str]) -> str:
    """The notice of who is here."""
    return "* here: " + ", ".join(sorted({one.user for one in await room.presence(TOPIC)}))


def at_position(_topic: str, line: ws.Message, position: ws.Position | None) -> str:
    return text(line) if position is None else f"@{position} {text(line)}"


def proof_in(query: Mapping[str, str]) -> str | None:
    """What others can see of a program's secret, and not say in its place."""
    return hashlib.sha256(query["id"].encode()).hexdigest() if "id" in query else None


def proof_of(present: ws.Present) -> object:
    return present.info.get("proof") if isinstance(present.info, dict) else None


def text(message: ws.Message) -> str:
    """A message as text, whichever way it came."""
    return message if isinstance(message, str) else message.decode(errors="replace")


def free_name(wanted: ws.Message, taken: set[str]) -> str:
    """The wanted name, its letters and digits; with a number if it is taken."""
    name = re.sub(r"[^\w.]+", "-", text(wanted[:MOST_TEXT])).strip("-")[:30] or "guest"
    numbered = (f"{name}{number}" for number in itertools.count(2))
    return next(free for free in itertools.chain([name], numbered) if free not in taken)
