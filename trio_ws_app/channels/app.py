"""``Channels``: what an application says of its channels, and the handler that it becomes."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Concatenate, ParamSpec, TypeVar

from ..broker.base import Broker
from ..broker.history import History
from ..broker.memory import MemoryBroker
from ..broker.position import Position
from ..connection import Connection
from ..json_codec import JsonCodec
from ..server.options import check_handler
from ..server.parameters import pattern
from .calls import Call
from .client import ChannelClient
from .clients import Clients, Order
from .codes import DisconnectCode, Refuse, UnsubscribeCode
from .commands import Since
from .hub import Hub
from .limits import ChannelLimits
from .people import ConnectRequest, User
from .publications import ClientInfo, Publication
from .queries import page_of, present, rule_of
from .rules import Recovery, Rule, Rules, SlowPolicy
from .session import Session
from .subscription import ChannelSubscription
from .tokens import Tokens

Parameters = ParamSpec("Parameters")
Handler = TypeVar("Handler", bound=Callable[..., Awaitable[object]])
ConnectHandler = TypeVar("ConnectHandler", bound=Callable[[ConnectRequest], Awaitable[User]])
CallHandler = TypeVar("CallHandler", bound=Callable[[Call], Awaitable[object]])
SubscriptionHandler = Callable[Concatenate[ChannelSubscription, Parameters], Awaitable[object]]


class Channels:
    """Many subscriptions over one connection, for the clients of Centrifugo's protocol in JSON.

    An application says with decorators which of its functions answers what, and ``app`` makes a handler of it
    that ``serve``, ``App`` and ``Routes`` take. Without a function for ``connect`` everybody may connect: as
    the user that a token names if there are ``tokens``, else without a name.

    ``limits`` bound what a client may ask, ``tokens`` read JSON Web Tokens, ``json`` is what values are read
    and written with.
    """

    def __init__(
        self,
        *,
        tokens: Tokens | None = None,
        limits: ChannelLimits | None = None,
        json: JsonCodec | None = None,
    ) -> None:
        self._rules = Rules()
        self._tokens = tokens
        self._limits = limits or ChannelLimits()
        self._json = json or JsonCodec()

    def connect(self, function: ConnectHandler) -> ConnectHandler:
        """Decorate the async function that says who a client is.

        It takes a ``ConnectRequest`` and returns a ``User``, and is asked again when the client refreshes its
        token. What it raises costs its own client: ``Refuse`` what that says, anything else error 100 and a
        record in the log.
        """
        check_handler(function)
        self._rules.connect = function
        return function

    def subscription(
        self,
        pattern_text: str,
        *,
        history: History | None = None,
        recovery: Recovery = "stream",
        presence: bool = False,
        overflow: SlowPolicy = "disconnect",
        token: bool = False,
    ) -> Callable[[SubscriptionHandler[Parameters]], SubscriptionHandler[Parameters]]:
        """Decorate the async function that a subscription to a channel of this pattern is.

        The pattern is a channel's name with parameters as those of ``Routes``: ``"room:{name}"``,
        ``"game:{id:int}"``. The function takes a ``ChannelSubscription`` and the parameters, by name, and
        runs as long as the client is subscribed. Of several patterns that match, one without parameters is
        taken, else the first.

        ``history`` says how much is kept, so that clients recover what they have missed; with the
        ``recovery`` "cache" they get the last publication alone. With ``presence`` subscribers are told who
        is there. ``overflow`` says what happens to a publication for a client whose queue is full:
        "disconnect" (3008, the client comes back and recovers), "unsubscribe" (2500, likewise for this
        channel alone), or "drop-newest", "drop-oldest" and "latest" where nothing promises to recover it.
        With ``token`` a client needs a token for the subscription, which ``Tokens`` reads.

        Raises:
            ValueError: the pattern or an argument makes no sense, or the pattern is there already.
            TypeError: the function is not async, or does not take these parameters.
        """
        compiled = pattern(pattern_text)

        def add(function: SubscriptionHandler[Parameters]) -> SubscriptionHandler[Parameters]:
            check_handler(function)
            _check_parameters(function, compiled.converters)
            rule = Rule(
                pattern=compiled,
                handler=function,
                history=history,
                recovery=recovery,
                presence=presence,
                overflow=overflow,
                needs_token=token,
            )
            self._rules.add(pattern_text, rule)
            return function

        return add

    def rpc(self, method: str) -> Callable[[CallHandler], CallHandler]:
        """Decorate the async function that answers calls of ``method``.

        It takes a ``Call`` and returns a JSON value. What it raises is the answer: ``Refuse`` what that says,
        anything else error 100 and a record in the log.

        Raises ValueError if the method has a function already.
        """

        def add(function: CallHandler) -> CallHandler:
            check_handler(function)
            if method in self._rules.calls:
                raise ValueError(f"the method {method!r} has a function already")
            self._rules.calls[method] = function
            return function

        return add

    def message(self, function: CallHandler) -> CallHandler:
        """Decorate the async function that takes a ``Call`` for which the client wants no answer."""
        check_handler(function)
        self._rules.message = function
        return function

    def app(self, broker: Broker | None = None, *, prefix: str = "channel:") -> ChannelsApp:
        """The application as a handler, with ``broker``, which other processes may share, or one of its own.

        ``prefix`` comes before a channel's name in that of its topic at the broker: what shares a broker and
        is not to share channels has another.
        """
        hub = Hub(self._rules, broker or MemoryBroker(), self._limits, self._json, self._tokens, prefix)
        return ChannelsApp(hub)


def _check_parameters(function: Callable[..., object], names: Mapping[str, object]) -> None:
    try:
        inspect.signature(function).bind(None, **dict.fromkeys(names))
    except TypeError as error:
        wanted = ", ".join(["subscription", *names])
        raise TypeError(f"{function!r} is called with {wanted}: {error}") from None


class ChannelsApp:
    """A handler that speaks Centrifugo's protocol, and what a program may do with its channels and clients.

    Made by ``Channels.app``. Its methods reach the clients of every process that shares the broker. They
    raise ``Refuse`` with 102 for a channel that no function is for, 107 for a name that is too long, and
    BrokerUnavailable if the broker does not answer in time.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._clients = Clients(hub.codec)

    async def __call__(self, connection: Connection) -> None:
        """Serve one connection until it is over."""
        await Session(connection, self._hub, self._clients).serve()

    @property
    def clients(self) -> list[ChannelClient]:
        """The clients that are connected to this process now."""
        return list(self._clients)

    async def publish(
        self,
        channel: str,
        data: object,
        *,
        info: ClientInfo | None = None,
        tags: Mapping[str, str] | None = None,
        keep: bool = True,
        idempotency_key: str | None = None,
    ) -> Position | None:
        """Send ``data``, a JSON value, to all subscribers of ``channel``.

        It is kept as the channel's history says, unless ``keep`` is false; its position is returned then.
        A key that was used for the channel within 5 minutes publishes nothing.

        Raises TypeError or ValueError for what is no JSON.
        """
        rule = rule_of(self._hub, channel)
        publication = Publication(data, info, tags or {})
        return await self._hub.publish(channel, publication, rule.history if keep else None, idempotency_key)

    async def presence(self, channel: str) -> list[ClientInfo]:
        """The clients that are present on ``channel``. Raises ``Refuse`` with 108 if it has no presence."""
        return await present(self._hub, channel)

    async def history(
        self, channel: str, *, limit: int = -1, since: Position | None = None, reverse: bool = False
    ) -> list[Publication]:
        """The publications of ``channel`` that are kept, the oldest first, or with ``reverse`` the newest.

        ``since`` leaves out what does not come after that position, or with ``reverse`` before it.

        Raises ``Refuse`` with 108 if the channel has no history, 112 if it does not reach back to ``since``.
        """
        place = None if since is None else Since(str(since), since.offset)
        page = await page_of(self._hub, channel, limit, place, reverse)
        return [Publication.decode(delivery, self._hub.codec) for delivery in page.deliveries]

    async def disconnect(
        self,
        user: str,
        *,
        client: str = "",
        code: int = DisconnectCode.FORCE_NO_RECONNECT,
        reason: str = "",
    ) -> None:
        """Disconnect the user's connections, or the one with the id ``client``.

        The code, 3000 to 4999, says whether they come back. Raises ValueError for another.
        """
        if not Refuse(code, reason or None).is_disconnection:
            raise ValueError(f"a connection ends with 3000 to 4999, not {code}")
        await self._order(Order("disconnect", user, client, code=code, reason=reason))

    async def unsubscribe(
        self,
        user: str,
        channel: str,
        *,
        client: str = "",
        code: int = UnsubscribeCode.SERVER,
        reason: str = "",
    ) -> None:
        """End the user's subscriptions to ``channel``, or to all channels if that is "".

        The code, 2000 to 2999, says whether they come back: from 2500 on. Raises ValueError for another.
        """
        refusal = Refuse(code, reason or None)
        if refusal.is_error or refusal.is_disconnection:
            raise ValueError(f"a subscription ends with 2000 to 2999, not {code}")
        await self._order(Order("unsubscribe", user, client, channel, code, reason))

    async def subscribe(self, user: str, channel: str, *, client: str = "") -> None:
        """Subscribe the user's connections to ``channel``, as if they had asked; its handler may refuse."""
        rule_of(self._hub, channel)
        await self._order(Order("subscribe", user, client, channel))

    async def _order(self, order: Order) -> None:
        await self._hub.broker.publish(self._hub.prefix, order.encode(self._hub.codec))
