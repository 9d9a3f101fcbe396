"""What the functions of an application get: a client, its user, and its subscription to a channel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import trio

from ..broker.position import Position
from ..connection import Connection
from ..request import Request
from .codes import DisconnectCode, UnsubscribeCode
from .publications import ClientInfo


@attrs.frozen
class ConnectRequest:
    """What a client says of itself when it connects, and again when it refreshes its token.

    ``token`` is "" if it has none, ``data`` a JSON value or None, ``name`` and ``version`` are those of the
    client's program, ``headers`` what it would have sent as such. ``http`` is the request that opened the
    connection: its ``cookies``, ``headers`` and ``state``. ``client`` is the id of the connection.
    """

    client: str
    http: Request
    token: str = ""
    data: object = None
    name: str = ""
    version: str = ""
    headers: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class User:
    """A client's user, as the function for ``connect`` returns it.

    ``id`` is "" for one that is not known. ``info``, a JSON value, is told to others with what the client
    publishes and where it is present; ``data``, another, is the answer to the client itself. The client is
    subscribed to ``channels`` without asking for them. At ``expires_at``, in seconds since 1970, it has to
    refresh. ``state`` is the application's own, of any type, and is sent to no client.
    """

    id: str = ""
    info: object = attrs.field(default=None, kw_only=True)
    data: object = attrs.field(default=None, kw_only=True)
    channels: Sequence[str] = attrs.field(default=(), kw_only=True)
    expires_at: float | None = attrs.field(default=None, kw_only=True)
    state: object = attrs.field(default=None, kw_only=True)


@attrs.define(eq=False, repr=False)
class Grant:
    """What a token for a subscription says besides whose it is."""

    info: object
    expires_at: float | None
    claims: Mapping[str, object]


class ChannelClient(ABC):
    """One connected client.

    ``id`` is its own, another for each connection; ``user`` is what the function for ``connect`` has
    returned, ``info`` what others are told of it.
    """

    __slots__ = ()

    id: str
    user: User
    connection: Connection

    @property
    @abstractmethod
    def info(self) -> ClientInfo:
        """What others are told of it."""

    @property
    @abstractmethod
    def channels(self) -> tuple[str, ...]:
        """The channels that it is subscribed to now."""

    @abstractmethod
    def is_subscribed(self, channel: str) -> bool:
        """Whether it is subscribed to ``channel`` now."""

    @abstractmethod
    async def send(self, data: object) -> None:
        """Send a message to this client alone, a JSON value, waiting while it is behind.

        Raises:
            ConnectionClosed: the client has gone.
            TypeError, ValueError: ``data`` is no JSON.
        """

    @abstractmethod
    def subscribe(self, channel: str) -> None:
        """Subscribe the client to ``channel``, as if it had asked for it; its handler may still refuse.

        Does nothing if the client is subscribed, or is about to be.
        """

    @abstractmethod
    def unsubscribe(
        self, channel: str, code: int = UnsubscribeCode.SERVER, reason: str | None = None
    ) -> None:
        """End the client's subscription to ``channel``, if it has one; with 2500 or more it comes back.

        Raises ValueError for a code that is not 2000 to 2999, or a reason over 123 bytes.
        """

    @abstractmethod
    def disconnect(self, code: int = DisconnectCode.FORCE_NO_RECONNECT, reason: str | None = None) -> None:
        """End the connection, with a code from 3000 to 4999 that says whether the client comes back.

        Its subscriptions are cancelled. Raises ValueError for another code, or a reason over 123 bytes.
        """


class ChannelSubscription(trio.abc.Channel[Any]):
    """One client's subscription to one channel, for as long as its handler runs.

    It is a channel: what is received is what the client publishes here, and what is sent goes to this client
    alone; ``publish`` goes to all. ``consume``, ``produce`` and ``duplex`` work on it. The client is not
    subscribed before ``accept``. Its end is the unsubscription, whatever ends it: the handler returns or
    raises, the client unsubscribes or leaves, its token is out of date. In the last cases the handler is
    cancelled, and others are told that the client has left when its ``finally`` blocks have run.

    ``channel`` is the channel's name, ``client`` whose it is, ``data`` the JSON value that it has sent with
    its wish, or None, ``grant`` what the client's token for the subscription says, or None without one.
    ``by_server`` says that the client has not asked for it.
    """

    __slots__ = ()

    channel: str
    client: ChannelClient
    data: Any
    grant: Grant | None
    by_server: bool

    @property
    def user(self) -> User:
        """The client's user."""
        return self.client.user

    @property
    @abstractmethod
    def info(self) -> ClientInfo:
        """What others are told of this client with its publications and its presence."""

    @abstractmethod
    async def accept(
        self, *, data: object = None, info: object = None, expires_at: float | None = None
    ) -> None:
        """Let the client be subscribed: it is told what it has missed, and gets what is published next.

        ``data``, a JSON value, is the answer to the client; ``info`` is told to others with what it publishes
        here and its presence. At ``expires_at``, in seconds since 1970, the subscription ends with 2501.

        Raises:
            Refuse: with 110 it would have expired already, with 112 the client wants nothing without what it
                has missed, with 2500 messages were lost meanwhile.
            BrokerUnavailable: the broker did not answer in time.
            ConnectionClosed: the client has gone.
            RuntimeError: it was accepted before.
        """

    @abstractmethod
    async def receive(self) -> Any:
        """Wait for what the client publishes here next, a JSON value.

        The client is told that a publication was taken when the next one is asked for. When cancelled, no
        publication is lost.

        Raises:
            trio.BusyResourceError: another task is receiving.
            trio.ClosedResourceError: this side has called ``aclose``.
            RuntimeError: the subscription is not accepted.
        """

    @abstractmethod
    async def send(self, value: Any) -> None:
        """Send ``value``, a JSON value, to this client alone, waiting while it is behind; it is not kept.

        Raises:
            ConnectionClosed: the client has gone.
            trio.ClosedResourceError: this side has called ``aclose``.
            TypeError, ValueError: it is no JSON.
        """

    @abstractmethod
    async def publish(
        self, data: object, *, tags: Mapping[str, str] | None = None, idempotency_key: str | None = None
    ) -> Position | None:
        """Send ``data``, a JSON value, to all subscribers of the channel, this one too, in every process.

        They are told who has published it. Returns its position if the channel has a history.

        Raises:
            BrokerUnavailable: the broker did not accept it in time.
            TypeError, ValueError: it is no JSON.
        """

    @abstractmethod
    def refuse(self, code: int, message: str | None = None) -> None:
        """Answer with an error to the publication that was received last; others are not concerned.

        Raises ValueError for a code that is no error's.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """End the subscription: the client is told, and gets nothing more, while the handler goes on."""
