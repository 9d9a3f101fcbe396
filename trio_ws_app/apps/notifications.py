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
from functools import cached_property

import attrs
import trio

import trio_ws_app as ws
from trio_ws_app import auth

LOOK_EVERY = 1.0
DAY = 24 * 3600.0
GAP, AWAY, BACK = (json.dumps({"type": kind}) for kind in ("gap", "away", "back"))
PATIENCE = 2  # looks: one alone may fall into the moment in which a connection is made


@asynccontextmanager
async def notifications(broker: ws.Broker | None = None) -> AsyncGenerator[ws.Handler]:
    """The application: it needs the secret to begin."""
    tokens = Tokens.from_environment()
    plain: ws.Registry[str]
    with_topics: ws.Registry[str]
    async with (
        ws.open_registry(broker=broker, on_gap=gap) as plain,
        ws.open_registry(broker=plain.broker, on_gap=gap, envelope=with_topic) as with_topics,
        trio.open_nursery() as nursery,
    ):

        @auth.with_session(tokens.verifier)
        async def handler(connection: ws.Connection, session: auth.Session) -> None:
            user, kinds = session.user.id, kinds_of(session.user)
            users = with_topics if "topics" in connection.request.query else plain
            if outage.is_told:
                await connection.send(AWAY)
            with users.register(connection, user) as member:
                async with AsyncExitStack() as following:
                    for topic in (f"user:{user}", *(f"event:{kind}" for kind in kinds)):
                        await following.enter_async_context(member.follow(topic))
                    await connection.send(json.dumps({"type": "welcome", "user": user, "may": kinds}))
                    async for _ in connection:
                        pass  # the client has nothing more to say

        def tell(message: str) -> None:
            plain.broadcast(message)
            with_topics.broadcast(message)

        outage = Outage(plain.broker, tell)
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


def kinds_of(user: auth.User) -> list[str]:
    """The kinds of events that a user may see."""
    kinds = user.claims.get("may")
    return [kind for kind in kinds if isinstance(kind, str)] if isinstance(kinds, list) else []


class Tokens:
    """Signs tokens; ``verifier`` reads them again."""

    def __init__(self, secret: str | bytes) -> None:
        self._secret = secret

    @cached_property
    def verifier(self) -> auth.Verifier:
        """Knows the tokens that were signed with the secret. Raises ValueError for a short one."""
        return auth.Verifier(auth.secret(self._secret))

    @classmethod
    def from_environment(cls) -> "Tokens":
        """With the secret in ``TRIO_WS_APP_SECRET``; raises UsageError if there is none, or a short one."""
        secret = os.environb.get(b"TRIO_WS_APP_SECRET", b"")
        if len(secret) < auth.MIN_SECRET:
            raise ws.UsageError(
                f"set TRIO_WS_APP_SECRET to a random text of at least {auth.MIN_SECRET} characters; "
                "it signs the users' tokens"
            )
        return cls(secret)

    def sign(self, user: str, may: list[str], seconds: float = DAY) -> str:
        """A token for ``user``, who may see these kinds of events, valid for so long.

        Raises UsageError if it would be longer than a server takes.
        """
        token = auth.sign(self._secret, {"sub": user, "may": may, "exp": time.time() + seconds})
        if len(token) > auth.MAX_TOKEN_SIZE:
            raise ws.UsageError(f"a token has at most {auth.MAX_TOKEN_SIZE} characters, not {len(token)}")
        return token
