"""``Channels``: what an application says of its channels, before it is served."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Concatenate, ParamSpec, TypeVar

from ..broker.base import Broker
from ..broker.history import History
from ..broker.memory import MemoryBroker
from ..callbacks import is_async
from ..json_codec import JsonCodec
from ..server.parameters import pattern
from .app import ChannelsApp
from .calls import Call
from .hub import Hub
from .interface import ChannelSubscription, ConnectRequest, User
from .limits import ChannelLimits
from .rules import Recovery, Rule, Rules, SlowPolicy
from .tokens import Tokens

Parameters = ParamSpec("Parameters")
ConnectHandler = TypeVar("ConnectHandler", bound=Callable[[ConnectRequest], Awaitable[User]])
CallHandler = TypeVar("CallHandler", bound=Callable[[Call], Awaitable[object]])
SubscriptionHandler = Callable[Concatenate[ChannelSubscription, Parameters], Awaitable[object]]


class Channels:
    """Many subscriptions over one connection, for the clients of Centrifugo's protocol in JSON.

    An application says with decorators which of its functions answers what, and ``app`` makes a handler of it
    that ``serve``, ``App`` and ``Routes`` take. Without a function for ``connect`` any client may connect: as
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
        if tokens is not None and not isinstance(tokens, Tokens):
            raise TypeError(f"tokens= takes ws.Tokens(auth.secret(text)), not {type(tokens).__name__}")
        self._rules = Rules()
        self._tokens = tokens
        self._limits = limits or ChannelLimits()
        self._json = json or JsonCodec()

    def connect(self, function: ConnectHandler) -> ConnectHandler:
        """Decorate the async function that returns the user of a client.

        It takes a ``ConnectRequest`` and returns a ``User``, and is asked again when the client refreshes its
        token. What it raises costs its own client: ``Refuse`` what that says, anything else error 100 and a
        record in the log.
        """
        _check_async(function)
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
        channel alone), or "drop-newest", "drop-oldest" and "latest" if nothing promises to recover it.
        With ``token`` a client needs a token for the subscription, which ``Tokens`` reads.

        Raises:
            ValueError: the pattern or an argument makes no sense, or the pattern is there already.
            TypeError: the function is not async, or does not take these parameters.
        """
        compiled = pattern(pattern_text)

        def add(function: SubscriptionHandler[Parameters]) -> SubscriptionHandler[Parameters]:
            _check_async(function)
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
            _check_async(function)
            if method in self._rules.calls:
                raise ValueError(f"the method {method!r} has a function already")
            self._rules.calls[method] = function
            return function

        return add

    def message(self, function: CallHandler) -> CallHandler:
        """Decorate the async function that takes a ``Call`` for which the client wants no answer."""
        _check_async(function)
        self._rules.message = function
        return function

    def app(self, broker: Broker | None = None, *, prefix: str = "channel:") -> ChannelsApp:
        """The application as a handler, with ``broker``, which other processes may share, or one of its own.

        ``prefix`` comes before a channel's name in that of its topic at the broker: what shares a broker and
        is not to share channels has another.
        """
        if broker is not None and not isinstance(broker, Broker):
            raise TypeError(f"app() takes what open_redis_broker(url) opens, not {type(broker).__name__}")
        hub = Hub(self._rules, broker or MemoryBroker(), self._limits, self._json, self._tokens, prefix)
        return ChannelsApp(hub)


def _check_async(function: Callable[..., object]) -> None:
    if not is_async(function):
        raise TypeError(f"{function!r} is not async: write async def")


def _check_parameters(function: Callable[..., object], names: Mapping[str, object]) -> None:
    try:
        inspect.signature(function).bind(None, **dict.fromkeys(names))
    except TypeError as error:
        wanted = ", ".join(["subscription", *names])
        raise TypeError(f"{function!r} is called with {wanted}: {error}") from None
