"""Rooms, many conversations over one connection: the channel protocol that Centrifugo's clients speak.

Who connects with ``{"name": NAME}`` as data is a guest of that name; with ``"secret"``, a text of its own, it
is the same user whenever it comes back. Who connects with a token (``trio-ws-app token USER``; the servers
have the same ``TRIO_WS_APP_SECRET``) is that user, and a moderator if it was signed with ``--may moderate``.
Others are told ``{"name": NAME, "moderator": BOOL}`` of each. The channels:

- ``room:NAME``: publish ``{"text": TEXT}``. It has a history and presence, and adds ``"at"``, the time.
- ``typing:NAME``: publish ``{}`` now and then while you type; it is not kept.
- ``inbox:USER``: what concerns that user alone, ``{"to": USER, "text": TEXT, "at": TIME}``.

The methods: ``direct`` with ``{"to": USER, "text": TEXT}`` publishes into the inboxes of both; ``remove``
with ``{"room": NAME, "user": USER}`` is for moderators, and keeps the user out of that room for ten minutes.
"""

import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio_ws_app as ws
from trio_ws_app import auth
from trio_ws_app.apps.notifications import Tokens

KEPT = ws.History(size=200, ttl=24 * 3600.0)
REMOVALS = ws.History(size=100, ttl=600.0)
MOST_TEXT = 4000  # characters
FORBIDDEN, BAD_REQUEST, EXPIRED, INVALID_TOKEN = 103, 107, 109, 3500


@asynccontextmanager
async def rooms(broker: ws.Broker | None = None) -> AsyncGenerator[ws.Handler]:
    """The application: its channels live as long as this block, and as the broker keeps them."""
    verifier = Tokens.from_environment().verifier if os.environ.get("TRIO_WS_APP_SECRET") else None
    channels = ws.Channels()

    @channels.connect
    async def identify(request: ws.ConnectRequest) -> ws.User:
        return token_user(verifier, request.token) if request.token else guest(request)

    @channels.subscription("room:{name}", history=KEPT, presence=True)
    async def room(subscription: ws.ChannelSubscription, name: str) -> None:
        check_room(name)
        if any(removal.data == subscription.user.id for removal in await app.history(f"removals:{name}")):
            raise ws.Refuse(FORBIDDEN, "a moderator has removed you from this room")
        await subscription.accept()
        async for data in subscription:
            text = text_in(data)
            if text is None:
                subscription.refuse(BAD_REQUEST)
            else:
                await subscription.publish({"text": text, "at": int(time.time())})

    @channels.subscription("typing:{name}", overflow="drop-newest")
    async def typing(subscription: ws.ChannelSubscription, name: str) -> None:
        if not subscription.client.is_subscribed(f"room:{name}"):
            raise ws.Refuse(FORBIDDEN)
        await subscription.accept()
        async for _ in subscription:
            await subscription.publish({})

    @channels.subscription("inbox:{user}", history=KEPT)
    async def inbox(subscription: ws.ChannelSubscription, user: str) -> None:
        if subscription.user.id != user:
            raise ws.Refuse(FORBIDDEN)
        await subscription.accept()
        async for _ in subscription:
            subscription.refuse(FORBIDDEN)  # others are written to by ``direct``

    @channels.subscription("removals:{name}", history=REMOVALS)
    async def removals(_subscription: ws.ChannelSubscription, name: str) -> None:  # noqa: ARG001
        raise ws.Refuse(FORBIDDEN)  # read by the rooms alone

    @channels.rpc("direct")
    async def direct(call: ws.Call) -> object:
        to, text = text_in(call.data, "to"), text_in(call.data)
        if to is None or text is None:
            raise ws.Refuse(BAD_REQUEST)
        now = int(time.time())
        sender = ws.ClientInfo(call.user.id, call.client.id, call.user.info)
        for user in {to, call.user.id}:
            await app.publish(f"inbox:{user}", {"to": to, "text": text, "at": now}, info=sender)
        return {}

    @channels.rpc("remove")
    async def remove(call: ws.Call) -> object:
        if not call.user.state:
            raise ws.Refuse(FORBIDDEN)
        name, user = text_in(call.data, "room"), text_in(call.data, "user")
        if name is None or user is None:
            raise ws.Refuse(BAD_REQUEST)
        check_room(name)
        await app.publish(f"removals:{name}", user)
        for channel in (f"typing:{name}", f"room:{name}"):
            await app.unsubscribe(user, channel, reason="removed by a moderator")
        return {}

    app = channels.app(broker, prefix="rooms:")
    yield app


def guest(request: ws.ConnectRequest) -> ws.User:
    """A user without a token: a name, and a mark that another secret does not have."""
    data = request.data if isinstance(request.data, dict) else {}
    name = re.sub(r"[^\w. -]+", "", text_in(data, "name") or "").strip()[:30] or "guest"
    secret = text_in(data, "secret") or secrets.token_hex()
    mark = hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()[:12]
    return known(f"{name}~{mark}", name)


def token_user(verifier: auth.Verifier | None, token: str) -> ws.User:
    """The user that a token names."""
    if verifier is None:
        raise ws.Refuse(INVALID_TOKEN, "this server takes no tokens")
    try:
        user = verifier.user(token)
    except auth.TokenRefused as refusal:
        raise ws.Refuse(EXPIRED if refusal.expired else INVALID_TOKEN) from None
    may = user.claims.get("may")
    return known(user.id, user.id, isinstance(may, list) and "moderate" in may, user.expires_at)


def known(user: str, name: str, moderates: bool = False, expires_at: float | None = None) -> ws.User:
    """A user with an inbox; ``state`` says whether it is a moderator."""
    return ws.User(
        user,
        info={"name": name, "moderator": moderates},
        data={"user": user, "name": name, "moderator": moderates},
        channels=[f"inbox:{user}"],
        expires_at=expires_at,
        state=moderates,
    )


def check_room(name: str) -> None:
    """Raise ``Refuse`` for a name that no room can have."""
    if not re.fullmatch(r"[\w.-]{1,40}", name):
        raise ws.Refuse(BAD_REQUEST, "a room's name has 1 to 40 letters, digits, '-', '_' or '.'")


def text_in(data: object, field: str = "text") -> str | None:
    """The text that a client has sent, if it is one of a sensible length."""
    text = data.get(field) if isinstance(data, dict) else None
    return text if isinstance(text, str) and 0 < len(text) <= MOST_TEXT else None
