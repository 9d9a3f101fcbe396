"""One client of the protocol: its user, and what is sent to it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import trio

from ..broker.base import BrokerUnavailable
from ..callbacks import interrupt_in, leaves
from ..connection import Connection
from ..errors import ConnectionClosed
from ..wire.connection import WireConnection
from .codes import DisconnectCode, ErrorCode, Refuse, UnsubscribeCode, disconnection, unsubscription
from .hub import Hub
from .interface import ChannelClient, Grant, User
from .publications import ClientInfo, line

logger = logging.getLogger("trio_ws_app.channels")


class Ongoing(Protocol):
    """A subscription, as its client knows it."""

    @property
    def is_subscribed(self) -> bool: ...
    @property
    def is_ending(self) -> bool: ...
    @property
    def ended(self) -> trio.Event: ...
    def end(self, why: Refuse) -> None: ...
    def leave(self, number: int) -> bool: ...
    def put(self, number: int, data: object, size: int) -> None: ...
    def refresh(self, grant: Grant) -> dict[str, object]: ...


class ConnectedClient(ChannelClient):
    """A client as its session, its subscriptions and its calls have it.

    Everything that is done for it is in ``scope``, and ``why`` it is disconnected is set before that ends.
    ``pending`` commands wait for their answers, and have so many bytes. ``running`` subscriptions have not
    ended, those included that a newer one to the same channel waits for; ``channel_bytes`` are those of the
    commands that they began with.
    """

    def __init__(self, id: str, connection: Connection, hub: Hub) -> None:  # noqa: A002
        self.id = id
        self.connection = connection
        self.user = User()
        self.hub = hub
        self.scope = trio.CancelScope()
        self.why: Refuse | None = None
        self.pending = 0
        self.pending_bytes = 0
        self.running = 0
        self.channel_bytes = 0
        self.subscriptions: dict[str, Ongoing] = {}
        self.begin: Callable[[str], object] | None = None  # a subscription of the server's

    def __repr__(self) -> str:
        return f"<ChannelClient {self.id} of {self.user.id!r}>"

    @property
    def info(self) -> ClientInfo:
        return ClientInfo(self.user.id, self.id, self.user.info)

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(name for name, one in self.subscriptions.items() if one.is_subscribed)

    def is_subscribed(self, channel: str) -> bool:
        subscription = self.subscriptions.get(channel)
        return subscription is not None and subscription.is_subscribed

    async def send(self, data: object) -> None:
        await self.connection.send(f'{{"push":{{"message":{line(self.hub.codec, {"data": data})}}}}}')

    def subscribe(self, channel: str) -> None:
        if self.begin is not None and channel not in self.subscriptions:
            self.begin(channel)

    def unsubscribe(
        self, channel: str, code: int = UnsubscribeCode.SERVER, reason: str | None = None
    ) -> None:
        why = unsubscription(code, reason)
        subscription = self.subscriptions.get(channel)
        if subscription is not None:
            subscription.end(why)

    def disconnect(self, code: int = DisconnectCode.FORCE_NO_RECONNECT, reason: str | None = None) -> None:
        self.end(disconnection(code, reason))

    def end(self, why: Refuse) -> None:
        """As ``disconnect`` does."""
        if self.why is None:
            self.why = why
            self._say_why(why)
            self.scope.cancel()

    def _say_why(self, why: Refuse) -> None:
        """Tell the client at once; one that cannot be closed without waiting is when the tasks have ended."""
        advice = {"push": {"disconnect": {"code": why.code, "reason": why.message}}}
        with suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self.connection.send_nowait(line(self.hub.codec, advice))  # the Close says it too
        if isinstance(self.connection, WireConnection):
            self.connection.send_close(why.code, why.message)

    def too_slow(self) -> None:
        """The client's queue is full: disconnect it, and drop what waits there."""
        if isinstance(self.connection, WireConnection):
            self.connection.shared_frames.drop_oldest(1 << 60)
        self.end(Refuse(DisconnectCode.SLOW))

    def begin_pending(self, size: int) -> None:
        """A command of this size waits for its answer. Raises ``Refuse`` with 111 if others take the room."""
        limits = self.hub.limits
        if self.pending >= limits.max_pending or self.pending_bytes >= limits.max_pending_bytes:
            raise Refuse(ErrorCode.TOO_MANY_REQUESTS)
        self.pending += 1
        self.pending_bytes += size

    def end_pending(self, size: int) -> None:
        """The command has its answer."""
        self.pending -= 1
        self.pending_bytes -= size

    def post(self, text: str) -> bool:
        """Send without waiting; False if there is no room."""
        try:
            self.connection.send_nowait(text)
        except trio.WouldBlock:
            return False
        return True

    async def reply(self, number: int, kind: str, result: object) -> None:
        """Answer a command, waiting while the client is behind."""
        await self.connection.send(line(self.hub.codec, {"id": number, kind: result}))

    async def refuse(self, number: int, refusal: Refuse) -> None:
        """Answer a command with an error."""
        await self.reply(number, "error", refusal.as_json())

    def judge(self, error: BaseException, what: str) -> Refuse | None:
        """What the client is told of an error of the application; None if it was only cancelled, or has gone.

        A bug becomes one ERROR record with its traceback, and error 100 (G5). Raises KeyboardInterrupt and
        SystemExit, which end more than one client.
        """
        if interrupt_in(error) is not None:
            raise error
        failures = [leaf for leaf in leaves(error) if not self._expects(leaf)]
        if not failures:
            return None
        if not all(isinstance(failure, Refuse | BrokerUnavailable) for failure in failures):
            self._log(logging.ERROR, f"{what} failed", error)
            return Refuse(ErrorCode.INTERNAL)
        for failure in failures:
            if isinstance(failure, Refuse):
                return failure
        self._log(logging.WARNING, f"{what}: {failures[0]}", None)
        return Refuse(ErrorCode.INTERNAL)

    def _expects(self, leaf: BaseException) -> bool:
        if isinstance(leaf, ConnectionClosed):
            return leaf.connection is self.connection
        return isinstance(leaf, trio.Cancelled)

    def _log(self, level: int, text: str, error: BaseException | None) -> None:
        connection = self.connection
        where = {"connection": connection.id, "remote": connection.remote}
        logger.log(level, "%s: %s", connection.id, text, exc_info=error, extra=where)
