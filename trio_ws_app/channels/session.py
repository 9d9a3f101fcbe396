"""The protocol with one client: what it says, from its first frame to its last."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack, suppress
from functools import partial

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..concurrency.running_time import wait_running
from ..connection import Connection
from ..errors import CloseCode, ConnectionClosed
from . import requests
from .calls import Calls
from .client import ConnectedClient
from .clients import Clients
from .codes import DisconnectCode, Refuse
from .commands import bad_request, commands_in
from .hub import Hub
from .identity import Identity
from .interface import ConnectRequest
from .limits import Rate
from .publications import line, presence_fields, stats_fields
from .requests import Command
from .subscription import Joining
from .subscriptions import Subscriptions


class Session:
    """Serves one connection: its subscriptions and calls are tasks in one nursery, which ends with it."""

    def __init__(self, connection: Connection, hub: Hub, clients: Clients) -> None:
        self.client = ConnectedClient(str(uuid.uuid4()), connection, hub)
        self._connection = connection
        self._clients = clients
        self._rate = Rate(hub.limits)
        self._request: ConnectRequest | None = None  # that was accepted
        self._refused = False  # it may not connect, and is expected to go
        self._expected = trio.Event()  # what has to come next: to connect, or a pong
        self._too_big = False
        self._blocks = AsyncExitStack()
        self._identity = Identity(self.client)
        self._calls: Calls
        self._subscriptions: Subscriptions

    # -- the life of a connection

    @enable_ki_protection
    async def serve(self) -> None:
        """Return when the connection is over. What the application's functions raise does not come out."""
        client = self.client
        async with self._blocks:
            with client.scope:
                try:
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
        async with trio.open_nursery() as nursery:
            self._calls = Calls(self.client, nursery)
            self._subscriptions = Subscriptions(self.client, nursery)
            self.client.begin = self._subscriptions.begin_by_server
            nursery.start_soon(self._watch)
            try:
                await self._read()
            finally:
                self.client.begin = None  # the nursery is about to close
            nursery.cancel_scope.cancel()

    async def _read(self) -> None:
        try:
            async for frame in self._connection:
                if not isinstance(frame, str):
                    raise Refuse(DisconnectCode.INAPPROPRIATE_PROTOCOL)
                if len(frame) > self.client.hub.limits.max_frame_size:
                    self._too_big = True
                    return
                for command in commands_in(frame, self.client.hub.codec):
                    await self._take(command)
        except Refuse as refusal:
            self.client.end(refusal)
        except ConnectionClosed as error:
            if error.connection is not self._connection:
                raise
        except trio.ClosedResourceError:
            pass  # the application has closed it itself

    @enable_ki_protection
    async def _watch(self) -> None:
        """End a client that does not connect, or does not answer pings."""
        limits = self.client.hub.limits
        if not await wait_running(self._expected, limits.connect_timeout):
            self.client.end(Refuse(DisconnectCode.STALE))
        with suppress(ConnectionClosed):  # the reader learns of that too
            while True:
                await trio.sleep(limits.ping_interval)
                if not self.client.post("{}"):
                    continue  # what waits for it says as much as a ping
                self._expected = trio.Event()
                if not await wait_running(self._expected, limits.pong_timeout):
                    self.client.end(Refuse(DisconnectCode.NO_PONG))

    def _pong(self) -> None:
        if self._expected.is_set():
            raise bad_request()  # it was not asked for
        self._expected.set()

    # -- commands

    async def _take(self, command: Command) -> None:
        try:
            self._rate.spend()
            if isinstance(command.request, Refuse):
                raise command.request
            if isinstance(command.request, requests.Connect):
                await self._connect(command.id, command.request)
            elif self._request is not None:
                self._dispatch(command.id, command.request, command.size)
            elif not self._refused:
                raise bad_request()
        except Refuse as refusal:
            if refusal.is_error and not command.id:  # there is no reply that could say so
                refusal = Refuse(DisconnectCode.TOO_MANY_REQUESTS)
            if refusal.is_disconnection:
                raise refusal from None
            await self.client.refuse(command.id, refusal)

    def _dispatch(self, number: int, request: requests.Request | None, size: int) -> None:
        calls = self._calls
        match request:
            case None:
                self._pong()
            case requests.Publish():
                self._subscriptions.publish(number, request, size)
            case requests.Subscribe():
                self._subscriptions.subscribe(number, request, size)
            case requests.Unsubscribe():
                if not self._subscriptions.unsubscribe(number, request):
                    calls.start(number, "unsubscribe", _nothing)
            case requests.Rpc():
                calls.rpc(number, request, size)
            case requests.Send():
                calls.message(request.data, size)
            case requests.Presence():
                calls.start(number, "presence", partial(calls.presence, request.channel, presence_fields))
            case requests.PresenceStats():
                calls.start(number, "presence_stats", partial(calls.presence, request.channel, stats_fields))
            case requests.History():
                calls.start(number, "history", partial(calls.history, request))
            case requests.Refresh():
                calls.start(number, "refresh", partial(self._refresh, request.token))
            case requests.SubRefresh():
                calls.start(number, "sub_refresh", partial(self._subscriptions.refresh, request))

    async def _refresh(self, token: str) -> str:
        assert self._request is not None
        result = await self._identity.refresh(attrs.evolve(self._request, token=token))
        return line(self.client.hub.codec, result)

    # -- connecting

    async def _connect(self, number: int, command: requests.Connect) -> None:
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
                reply, joining = await self._let_in(request, command)
            except BaseException as error:
                refusal = self.client.judge(error, "the function for connect")
                if refusal is None:
                    raise
                self._refused = not refusal.is_disconnection
                raise (refusal if refusal.is_disconnection else refusal.as_error()) from None
        await self._connection.send(f'{{"id":{number},"connect":{reply}}}')
        self._request = request
        self._subscriptions.connected(joining)
        self._expected.set()

    async def _let_in(self, request: ConnectRequest, command: requests.Connect) -> tuple[str, Joining]:
        """The result of the command, as JSON, and the subscriptions that wait until it is told."""
        hub = self.client.hub
        text = line(hub.codec, await self._identity.connect(request))
        await self._blocks.enter_async_context(hub.broker.attach(hub.prefix, self._clients.obey))
        self._clients.add(self.client, hub.limits.max_connections_a_user)
        joining = await self._subscriptions.join(self.client.user.channels, command.subscriptions)
        if self.client.user.channels:
            results = (f"{line(hub.codec, channel)}:{result}" for channel, result in joining.results.items())
            text = f'{text[:-1]},"subs":{{{",".join(results)}}}}}'
        return text, joining


async def _nothing() -> str:
    """The result of a command that has nothing to do."""
    await trio.lowlevel.checkpoint()
    return "{}"
