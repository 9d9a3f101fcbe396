"""The protocol with one client: what it says, from its first frame to its last."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from math import inf
from typing import Final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..callbacks import await_interruptible
from ..connection import Connection
from ..errors import CloseCode, ConnectionClosed
from . import commands
from .calls import Calls
from .client import ChannelClient
from .clients import Clients
from .codes import DisconnectCode, ErrorCode, Refuse
from .commands import Command, Since, bad_request, commands_in
from .entering import Joining, ttl
from .failures import judge
from .hub import Hub
from .limits import Rate
from .people import ConnectRequest, User
from .publications import line
from .running import RunningSubscription

_VERSION: Final = "trio_ws_app"


class Session:
    """Serves one connection: its subscriptions and calls are tasks in one nursery, which ends with it."""

    def __init__(self, connection: Connection, hub: Hub, clients: Clients) -> None:
        self.client = ChannelClient(str(uuid.uuid4()), connection, hub)
        self._connection = connection
        self._hub = hub
        self._clients = clients
        self._rate = Rate(hub.limits)
        self._request: ConnectRequest | None = None  # that was accepted
        self._refused = False  # it may not connect, and is expected to go
        self._expected: trio.Event | None = trio.Event()  # what has to come next: to connect, or a pong
        self._too_big = False
        self._blocks = AsyncExitStack()
        self._nursery: trio.Nursery
        self._calls: Calls

    # -- the life of a connection

    @enable_ki_protection
    async def serve(self) -> None:
        """Return when the connection is over. What the application's functions raise does not come out."""
        client = self.client
        try:
            async with self._blocks:
                with client.scope:
                    await self._serve()
        finally:
            self._clients.discard(client)
        if client.why is None and trio.current_time() >= client.scope.deadline:
            client.end(Refuse(DisconnectCode.EXPIRED))
        if self._too_big:
            await self._connection.aclose(CloseCode.MESSAGE_TOO_BIG, "the frame is too long")
        elif client.why is not None:
            await self._connection.aclose(client.why.code, client.why.message)

    async def _serve(self) -> None:
        async with trio.open_nursery() as self._nursery:
            self._calls = Calls(self.client, self._hub, self._nursery)
            self.client.begin = self._begin_by_server
            self._nursery.start_soon(self._watch)
            await self._read()
            self._nursery.cancel_scope.cancel()

    async def _read(self) -> None:
        try:
            async for frame in self._connection:
                if not isinstance(frame, str):
                    raise Refuse(DisconnectCode.INAPPROPRIATE_PROTOCOL)
                if len(frame) > self._hub.limits.max_frame_size:
                    self._too_big = True
                    return
                for command in commands_in(frame, self._hub.codec):
                    await self._take(command)
        except Refuse as refusal:
            self.client.end(refusal)
        except ConnectionClosed as error:
            if error.connection is not self._connection:
                raise

    @enable_ki_protection
    async def _watch(self) -> None:
        with suppress(ConnectionClosed):  # the reader learns of that too
            await self._watch_client()

    async def _watch_client(self) -> None:
        """End a client that does not connect, or does not answer pings."""
        limits, expected = self._hub.limits, self._expected
        if expected is not None and not await _comes(expected, limits.connect_timeout):
            self.client.end(Refuse(DisconnectCode.STALE))
        while True:
            await trio.sleep(limits.ping_interval)
            if not self.client.post("{}"):
                continue  # what waits for it says as much as a ping
            self._expected = pong = trio.Event()
            if not await _comes(pong, limits.pong_timeout):
                self.client.end(Refuse(DisconnectCode.NO_PONG))

    def _pong(self) -> None:
        if self._expected is None or self._expected.is_set():
            raise bad_request()  # it was not asked for
        self._expected.set()

    # -- commands

    async def _take(self, command: Command) -> None:
        try:
            self._rate.spend()
            if isinstance(command.request, Refuse):
                raise command.request
            if isinstance(command.request, commands.Connect):
                await self._connect(command.id, command.request)
            elif self._request is not None:
                self._dispatch(command.id, command.request)
            elif not self._refused:
                raise bad_request()
        except Refuse as refusal:
            if refusal.is_error and not command.id:  # there is no reply that could say so
                refusal = Refuse(DisconnectCode.TOO_MANY_REQUESTS)
            if refusal.is_disconnection:
                raise refusal from None
            await self.client.refuse(command.id, refusal)

    def _dispatch(self, number: int, request: commands.Request | None) -> None:
        calls = self._calls
        match request:
            case None:
                self._pong()
            case commands.Publish():
                self._publish(number, request)
            case commands.Subscribe():
                self._subscribe(number, request)
            case commands.Unsubscribe():
                self._unsubscribe(number, request)
            case commands.Rpc():
                calls.rpc(number, request)
            case commands.Send():
                calls.message(request.data)
            case commands.Presence():
                calls.start(number, "presence", partial(calls.presence, request.channel))
            case commands.PresenceStats():
                calls.start(number, "presence_stats", partial(calls.presence_stats, request.channel))
            case commands.History():
                calls.start(number, "history", partial(calls.history, request))
            case commands.Refresh():
                calls.start(number, "refresh", partial(self._refresh, request.token))
            case commands.SubRefresh():
                calls.start(number, "sub_refresh", partial(self._sub_refresh, request))

    # -- subscriptions

    def _subscribe(self, number: int, request: commands.Subscribe) -> None:
        current = self.client.subscriptions.get(request.channel)
        if current is not None and not current.is_ending:
            raise Refuse(ErrorCode.ALREADY_SUBSCRIBED)
        self._begin(request, number)

    def _begin(self, request: commands.Subscribe, number: int = 0, joining: Joining | None = None) -> None:
        """Begin a subscription. Raises ``Refuse`` if that is not possible."""
        client, hub = self.client, self._hub
        hub.checked(request.channel)
        found = hub.rules.find(request.channel)
        if found is None:
            raise Refuse(ErrorCode.UNKNOWN_CHANNEL)
        rule, parameters = found
        previous = client.subscriptions.get(request.channel)
        if previous is None and len(client.subscriptions) >= hub.limits.max_channels:
            raise Refuse(ErrorCode.LIMIT_EXCEEDED)
        grant = None
        if request.token and hub.tokens is not None:
            grant = hub.tokens.subscription(request.token, client.user.id, request.channel)
        if rule.needs_token and grant is None and number:
            raise Refuse(ErrorCode.PERMISSION_DENIED)
        subscription = RunningSubscription(
            client, hub, rule, request, number=number, grant=grant, joining=joining
        )
        client.subscriptions[request.channel] = subscription
        ended = None if previous is None else previous.ended
        self._nursery.start_soon(subscription.run, parameters, ended, name=request.channel)

    def _begin_by_server(
        self, channel: str, joining: Joining | None = None, since: Since | None = None
    ) -> None:
        """Begin a subscription that the client has not asked for; one that is not possible is left out."""
        try:
            self._begin(commands.Subscribe(channel, since=since), joining=joining)
        except Refuse:
            if joining is not None:
                joining.settle()

    def _unsubscribe(self, number: int, request: commands.Unsubscribe) -> None:
        subscription = self.client.subscriptions.get(request.channel)
        if subscription is None:
            self._calls.start(number, "unsubscribe", _nothing)
        else:
            subscription.leave(number)

    def _publish(self, number: int, request: commands.Publish) -> None:
        subscription = self.client.subscriptions.get(request.channel)
        if subscription is None or not subscription.is_subscribed:
            raise Refuse(ErrorCode.PERMISSION_DENIED)
        self._calls.make_room()
        subscription.put(number, request.data)

    async def _sub_refresh(self, request: commands.SubRefresh) -> str:
        subscription = self.client.subscriptions.get(request.channel)
        if self._hub.tokens is None:
            raise Refuse(ErrorCode.NOT_AVAILABLE)
        if not request.token:
            raise bad_request()
        if subscription is None or not subscription.is_subscribed:
            raise Refuse(ErrorCode.PERMISSION_DENIED)
        grant = self._hub.tokens.subscription(request.token, self.client.user.id, request.channel)
        await trio.lowlevel.checkpoint()
        return line(self._hub.codec, subscription.refresh(grant))

    # -- who the client is

    async def _connect(self, number: int, command: commands.Connect) -> None:
        if self._request is not None or self._refused:
            raise bad_request()
        request = ConnectRequest(
            self.client.id,
            self._connection.request,
            command.token,
            command.data,
            command.name,
            command.version,
            command.headers,
        )
        with self._connection.cancel_when_gone(self.client.scope):
            try:
                reply, joining = await self._let_in(request, command.subscriptions)
            except BaseException as error:
                refusal = judge(error, self.client, "the function for connect")
                if refusal is None:
                    raise
                self._refused = not refusal.is_disconnection
                raise (
                    refusal if refusal.is_error or refusal.is_disconnection else Refuse(ErrorCode.INTERNAL)
                ) from None
        await self._connection.send(f'{{"id":{number},"connect":{reply}}}')
        self._request = request
        joining.told.set()
        if self._expected is not None:
            self._expected.set()

    async def _let_in(self, request: ConnectRequest, wanted: Mapping[str, Since]) -> tuple[str, Joining]:
        """The result of the command, as JSON, and the subscriptions that wait for it to be told."""
        client, limits = self.client, self._hub.limits
        client.user = user = await self._ask(request)
        if len(user.channels) > limits.max_channels:
            raise Refuse(DisconnectCode.CHANNEL_LIMIT)
        result: dict[str, object] = {"client": client.id, "version": _VERSION}
        result |= {"ping": limits.ping_interval, "pong": True, **self._limit_time(user)}
        if user.data is not None:
            result["data"] = user.data
        text = line(self._hub.codec, result)
        line(self._hub.codec, client.info.as_json())  # raises an error now rather than where it is told
        await self._blocks.enter_async_context(self._hub.broker.attach(self._hub.prefix, self._clients.obey))
        self._clients.add(client, limits.max_connections_a_user)
        joining = Joining(len(user.channels))
        for channel in user.channels:
            self._begin_by_server(channel, joining, wanted.get(channel))
        if user.channels:
            await joining.settled.wait()
            text = f'{text[:-1]},"subs":{self._joined(joining)}}}'
        return text, joining

    def _joined(self, joining: Joining) -> str:
        live = [channel for channel in joining.results if self.client.is_subscribed(channel)]
        texts = (f"{line(self._hub.codec, channel)}:{joining.results[channel]}" for channel in live)
        return f"{{{','.join(texts)}}}"

    async def _ask(self, request: ConnectRequest) -> User:
        function = self._hub.rules.connect
        if function is not None:
            user = await await_interruptible(function(request))
            if not isinstance(user, User):
                raise TypeError(f"the function for connect returns a User, not {type(user).__name__}")
            return user
        return User() if self._hub.tokens is None else self._hub.tokens.user(request.token)

    def _limit_time(self, user: User) -> dict[str, object]:
        """Let the connection end when the user expires; what the client is told of that."""
        if user.expires_at is None:
            self.client.scope.deadline = inf
            return {}
        now = time.time()
        if user.expires_at <= now:
            raise Refuse(ErrorCode.EXPIRED)
        left = user.expires_at - now + self._hub.limits.expiry_delay
        self.client.scope.deadline = trio.current_time() + left
        return {"expires": True, "ttl": ttl(user.expires_at, now)}

    async def _refresh(self, token: str) -> str:
        """Ask again who the client is."""
        assert self._request is not None
        if self._hub.rules.connect is None and self._hub.tokens is None:
            raise Refuse(ErrorCode.NOT_AVAILABLE)
        if not token:
            raise bad_request()
        user = await self._ask(attrs.evolve(self._request, token=token))
        if user.id != self.client.user.id:
            raise Refuse(DisconnectCode.INVALID_TOKEN)
        times = self._limit_time(user)
        self.client.user = user
        return line(self._hub.codec, {"client": self.client.id, "version": _VERSION, **times})


async def _nothing() -> str:
    """The result of a command that has nothing to do."""
    await trio.lowlevel.checkpoint()
    return "{}"


async def _comes(event: trio.Event, patience: float) -> bool:
    """Wait for the event; False if it does not come in time.

    Each second of patience is counted once the loop has had the turn to read what has come: while the process
    was stopped, or the loop was blocked, none is (G14).
    """
    while patience > 0:
        with trio.move_on_after(min(patience, 1.0)):
            await event.wait()
        if event.is_set():
            return True
        patience -= 1.0
    return False
