"""Notifications, topics and permissions: each user gets the events that he or she may see.

In: one message, a token that ``trio-ws-app token USER --may KIND`` signs. Out: ``{"type": "welcome",
"user": USER, "may": [KIND, ...]}``, then the events as they were published: to ``event:KIND`` for all who may
see that kind, to ``user:USER`` for one user. A client that asks with ``?topics=1`` gets each as ``{"type":
"event", "topic": TOPIC, "message": TEXT}``. ``{"type": "gap"}`` says that events may be missing here,
``{"type": "away"}`` that the broker is away and none can come, ``{"type": "back"}`` that it is back.

Any process publishes: ``trio-ws-app publish event:orders '{"order": 7}' --broker redis://localhost:6379``.

Servers and those who sign tokens share a secret, ``TRIO_WS_APP_SECRET``. No token within ten seconds closes
with 4408, one that is wrong or out of date with 4401, also when it gets out of date later.
"""

import json
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import trio

import trio_ws_app as ws

TOKEN_DEADLINE = 10.0
LOOK_EVERY = 1.0
DAY = 24 * 3600.0
MAX_TOKEN_SIZE = 4096  # characters
MIN_SECRET_SIZE = 16
UNAUTHORIZED, TIMED_OUT = 4401, 4408
GAP, AWAY, BACK = (json.dumps({"type": kind}) for kind in ("gap", "away", "back"))
PATIENCE = 2  # looks: one alone may fall into the moment in which a connection is made


@asynccontextmanager
async def notifications(broker: ws.Broker | None = None) -> AsyncGenerator[ws.Handler]:
    """The application: it needs the secret to begin."""
    tokens = Tokens.from_environment()
    plain: ws.Registry[str]
    with_topics: ws.Registry[str]
    async with AsyncExitStack() as stack:
        if broker is None:
            broker = await stack.enter_async_context(ws.open_memory_broker())
        plain = await stack.enter_async_context(ws.open_registry(broker=broker, on_gap=gap))
        with_topics = await stack.enter_async_context(
            ws.open_registry(broker=broker, on_gap=gap, envelope=with_topic)
        )
        nursery = await stack.enter_async_context(trio.open_nursery())

        async def handler(connection: ws.Connection) -> None:
            with trio.move_on_after(TOKEN_DEADLINE) as patience:
                text = await connection.receive()
            if patience.cancelled_caught:
                await connection.aclose(TIMED_OUT, "no token came")
            elif (pass_ := tokens.read(text)) is None:
                await connection.aclose(UNAUTHORIZED, "the token is wrong or out of date")
            else:
                await notify(connection, pass_)

        async def notify(connection: ws.Connection, pass_: Pass) -> None:
            topics = [f"user:{pass_.user}", *(f"event:{kind}" for kind in pass_.may)]
            users = with_topics if "topics" in connection.request.query else plain
            if outage.is_told:
                await connection.send(AWAY)
            with users.register(connection, pass_.user) as member:
                async with AsyncExitStack() as following:
                    for topic in topics:
                        await following.enter_async_context(member.follow(topic))
                    welcome = {"type": "welcome", "user": pass_.user, "may": pass_.may}
                    await connection.send(json.dumps(welcome))
                    with trio.move_on_after(pass_.seconds_left):
                        async for _ in connection:
                            pass  # the client has nothing more to say
                        return
            await connection.aclose(UNAUTHORIZED, "the token is out of date now")

        def tell(message: str) -> None:
            plain.broadcast(message)
            with_topics.broadcast(message)

        outage = Outage(broker, tell)
        nursery.start_soon(ws.call_every, LOOK_EVERY, outage.look)
        yield handler
        nursery.cancel_scope.cancel()


@attrs.define
class Outage:
    """Tells the clients when the broker goes away, and when it is back."""

    broker: ws.Broker
    tell: Callable[[str], object]
    looks: int = 0
    is_told: bool = False

    def look(self, _number: int) -> None:
        """Look whether the broker is there."""
        self.looks = 0 if self.broker.problem is None else self.looks + 1
        if self.is_told != (self.looks >= PATIENCE):
            self.is_told = not self.is_told
            self.tell(AWAY if self.is_told else BACK)


def gap(_topic: str, _gap: ws.Gap) -> str:
    return GAP


def with_topic(topic: str, message: ws.Message, _position: ws.Position | None) -> str:
    """An event as a client gets it that asked for topics."""
    text = message if isinstance(message, str) else message.decode(errors="replace")
    return json.dumps({"type": "event", "topic": topic, "message": text})


@attrs.frozen
class Pass:
    """What a valid token says: who, what kinds of events, and for how long."""

    user: str
    may: list[str]
    seconds_left: float


class Tokens:
    """Signs tokens and reads them again."""

    def __init__(self, secret: str) -> None:
        try:
            from itsdangerous import BadData, URLSafeSerializer
        except ModuleNotFoundError:
            raise ws.UsageError("tokens need the extra: pip install 'trio-ws-app[notifications]'") from None
        self._bad_data = BadData
        self._signer = URLSafeSerializer(secret, salt="trio_ws_app.notifications")

    @classmethod
    def from_environment(cls) -> "Tokens":
        """With the secret in ``TRIO_WS_APP_SECRET``; raises UsageError if there is none, or a short one."""
        secret = os.environ.get("TRIO_WS_APP_SECRET", "")
        if len(secret) < MIN_SECRET_SIZE:
            raise ws.UsageError(
                f"set TRIO_WS_APP_SECRET to a random text of at least {MIN_SECRET_SIZE} characters; "
                "it signs the users' tokens"
            )
        return cls(secret)

    def sign(self, user: str, may: list[str], seconds: float = DAY) -> str:
        """A token for ``user``, who may see these kinds of events, valid for so long.

        Raises UsageError if it would be longer than ``read`` accepts.
        """
        token = str(self._signer.dumps([user, may, time.time() + seconds]))
        if len(token) > MAX_TOKEN_SIZE:
            raise ws.UsageError(f"a token has at most {MAX_TOKEN_SIZE} characters, this one {len(token)}")
        return token

    def read(self, token: ws.Message) -> Pass | None:
        """What a token says, or None for one that is wrong or out of date.

        Nothing of it is decompressed or parsed before its size and its signature are found good.
        """
        if len(token) > MAX_TOKEN_SIZE:
            return None
        try:
            user, may, until = self._signer.loads(token)
        except self._bad_data:
            return None
        seconds_left = until - time.time()
        return Pass(user, may, seconds_left) if seconds_left > 0 else None
