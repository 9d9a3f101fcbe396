"""Notifications, topics and permissions: each user gets the events that he or she may see.

In: one message, a token that ``trio-ws-app token USER --may KIND`` signs. Out: ``{"type": "welcome",
"user": USER, "may": [KIND, ...]}``, then the events as they were published: to ``event:KIND`` for all who may
see that kind, to ``user:USER`` for one user. ``{"type": "gap"}`` says that events may be missing here.

Any process publishes: ``trio-ws-app publish event:orders '{"order": 7}' --broker redis://localhost:6379``.

Servers and those who sign tokens share a secret, ``TRIO_WS_APP_SECRET``. No token within ten seconds closes
with 4408, one that is wrong or out of date with 4401, also when it gets out of date later.
"""

import json
import os
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import trio

import trio_ws_app as ws

TOKEN_DEADLINE = 10.0
DAY = 24 * 3600.0
MAX_TOKEN_SIZE = 4096  # characters
MIN_SECRET_SIZE = 16
UNAUTHORIZED, TIMED_OUT = 4401, 4408


@asynccontextmanager
async def notifications(broker: ws.Broker | None = None) -> AsyncGenerator[ws.Handler]:
    """The application: it needs the secret to begin."""
    tokens = Tokens.from_environment()
    gap = json.dumps({"type": "gap"})
    users: ws.Registry[str]
    async with ws.open_registry(broker=broker, on_gap=lambda *_: gap) as users:

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
            with users.register(connection, pass_.user) as member:
                async with AsyncExitStack() as stack:
                    for topic in topics:
                        await stack.enter_async_context(member.follow(topic))
                    welcome = {"type": "welcome", "user": pass_.user, "may": pass_.may}
                    await connection.send(json.dumps(welcome))
                    with trio.move_on_after(pass_.seconds_left):
                        async for _ in connection:
                            pass  # the client has nothing more to say
                        return
            await connection.aclose(UNAUTHORIZED, "the token is out of date now")

        yield handler


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
