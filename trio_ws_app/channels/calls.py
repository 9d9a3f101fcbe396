"""What a client asks for beside its subscriptions: calls of the application, and what channels hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Any, Final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from ..callbacks import await_interruptible
from ..errors import ConnectionClosed
from .client import ConnectedClient
from .codes import DisconnectCode, ErrorCode, Refuse
from .interface import ChannelClient, User
from .publications import ClientInfo, line, publications_among, with_publications
from .requests import History, Rpc

# A small command with a large answer: one of a client is in memory at a time, until the client takes it.
_LOOKS: Final = frozenset({"presence", "presence_stats", "history"})


@attrs.frozen
class Call:
    """What a client asks the application for: its ``data``, a JSON value, for ``method``.

    ``client`` and ``user`` are the caller's. For what is sent without a wish for an answer, the method is "".
    """

    client: ChannelClient
    method: str
    data: Any

    @property
    def user(self) -> User:
        """The client's user."""
        return self.client.user


class Calls:
    """Answers commands, each in a task of its own: ``work`` returns the result as JSON."""

    def __init__(self, client: ConnectedClient, nursery: trio.Nursery) -> None:
        self._client = client
        self._nursery = nursery
        self._looking = trio.Lock()

    def start(self, number: int, kind: str, work: Callable[[], Awaitable[str]], size: int = 0) -> None:
        """Begin to answer. Raises ``Refuse`` with 111 if too many commands wait for their answers."""
        self._client.begin_pending(size)
        self._nursery.start_soon(self._answer, number, kind, work, size, name=f"{kind} of {self._client.id}")

    @enable_ki_protection
    async def _answer(self, number: int, kind: str, work: Callable[[], Awaitable[str]], size: int) -> None:
        try:
            refusal = await self._try(number, kind, work)
            if refusal is not None and refusal.is_disconnection:
                self._client.end(refusal)
            elif refusal is not None and number:
                with suppress(ConnectionClosed):
                    await self._client.refuse(number, refusal.as_error())
        finally:
            self._client.end_pending(size)

    async def _try(self, number: int, kind: str, work: Callable[[], Awaitable[str]]) -> Refuse | None:
        try:
            async with self._looking if kind in _LOOKS else nullcontext():
                result = await work()
                if number:
                    await self._client.connection.send(f'{{"id":{number},"{kind}":{result}}}')
        except BaseException as error:
            return self._client.judge(error, f"the answer to {kind}")
        return None

    # -- the application's

    def rpc(self, number: int, request: Rpc, size: int) -> None:
        """Call the function for the method."""
        calls = self._client.hub.rules.calls
        if not calls:
            raise Refuse(ErrorCode.NOT_AVAILABLE)
        function = calls.get(request.method)
        if function is None:
            raise Refuse(ErrorCode.METHOD_NOT_FOUND)
        call = Call(self._client, request.method, request.data)

        async def work() -> str:
            return line(self._client.hub.codec, {"data": await await_interruptible(function(call))})

        self.start(number, "rpc", work, size)

    def message(self, data: object, size: int) -> None:
        """Call the function for messages, for which there is no answer."""
        function = self._client.hub.rules.message
        if function is None:
            raise Refuse(DisconnectCode.NOT_AVAILABLE)
        call = Call(self._client, "", data)

        async def work() -> str:
            await await_interruptible(function(call))
            return "{}"

        self.start(0, "send", work, size)

    # -- what channels hold

    def _check_subscribed(self, channel: str) -> None:
        if not self._client.is_subscribed(channel):
            raise Refuse(ErrorCode.PERMISSION_DENIED)

    async def presence(self, channel: str, fields: Callable[[Sequence[ClientInfo]], object]) -> str:
        """What ``fields`` says of the clients on a channel, to which this one has to be subscribed."""
        self._check_subscribed(channel)
        return line(self._client.hub.codec, fields(await self._client.hub.presence(channel)))

    async def history(self, request: History) -> str:
        """A page of a channel's history."""
        self._check_subscribed(request.channel)
        hub = self._client.hub
        page = await hub.history(request)
        result = line(hub.codec, {"epoch": page.top.epoch, "offset": page.top.offset})
        texts = publications_among(page.deliveries, request.channel, hub.texts.text_of)
        return with_publications(result, texts)
