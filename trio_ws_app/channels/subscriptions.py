"""The subscriptions of one client: each is begun in the session's nursery, and hears what the client says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs
import trio

from . import requests
from .client import ConnectedClient
from .codes import ErrorCode, Refuse
from .commands import bad_request
from .publications import line
from .requests import Since
from .running import RunningSubscription
from .subscription import Joining


@attrs.define(eq=False)
class Subscriptions:
    """Methods that return nothing leave the reply to the subscription. They raise ``Refuse``."""

    client: ConnectedClient
    nursery: trio.Nursery
    _later: list[str] | None = attrs.field(factory=list, init=False)  # until the client has connected

    # -- begun by the client

    def subscribe(self, number: int, request: requests.Subscribe, size: int) -> None:
        """Begin a subscription, after the end of one that is ending."""
        current = self.client.subscriptions.get(request.channel)
        if current is not None and not current.is_ending:
            raise Refuse(ErrorCode.ALREADY_SUBSCRIBED)
        self._begin(request, number, size - len(request.token))

    def _begin(
        self, request: requests.Subscribe, number: int = 0, size: int = 0, joining: Joining | None = None
    ) -> None:
        client, hub = self.client, self.client.hub
        hub.checked(request.channel)
        rule, parameters = hub.rules.find(request.channel)
        previous = client.subscriptions.get(request.channel)
        if previous is None and len(client.subscriptions) >= hub.limits.max_channels:
            raise Refuse(ErrorCode.LIMIT_EXCEEDED)
        if client.running >= 2 * hub.limits.max_channels:
            raise Refuse(ErrorCode.LIMIT_EXCEEDED)
        if client.channel_bytes >= hub.limits.max_channel_bytes:
            raise Refuse(ErrorCode.LIMIT_EXCEEDED)
        grant = None
        if request.token and hub.tokens is not None:
            grant = hub.tokens.subscription(request.token, client.user.id, request.channel)
        if rule.needs_token and grant is None and number:
            raise Refuse(ErrorCode.PERMISSION_DENIED)
        subscription = RunningSubscription(
            client,
            request.channel,
            request.data,
            grant,
            wants_presence=rule.presence and (request.join_leave or not number),
            rule=rule,
            since=request.since,
            reject_unrecovered=request.reject_unrecovered,
            number=number,
            size=size,
            joining=joining,
        )
        client.running += 1
        client.channel_bytes += size
        client.subscriptions[request.channel] = subscription
        ended = None if previous is None else previous.ended
        self.nursery.start_soon(subscription.run, parameters, ended, name=request.channel)

    def unsubscribe(self, number: int, request: requests.Unsubscribe) -> bool:
        """Cancel a subscription; False if there is none to answer, and the reply is the caller's."""
        subscription = self.client.subscriptions.get(request.channel)
        return subscription is not None and subscription.leave(number)

    def publish(self, number: int, request: requests.Publish, size: int) -> None:
        """Give the handler what the client publishes, also if it has not accepted yet."""
        subscription = self.client.subscriptions.get(request.channel)
        if subscription is None or subscription.is_ending:
            raise Refuse(ErrorCode.PERMISSION_DENIED)
        subscription.put(number, request.data, size)

    async def refresh(self, request: requests.SubRefresh) -> str:
        """Let a subscription go on as a new token says."""
        subscription = self.client.subscriptions.get(request.channel)
        hub = self.client.hub
        if hub.tokens is None:
            raise Refuse(ErrorCode.NOT_AVAILABLE)
        if not request.token:
            raise bad_request()
        if subscription is None or not subscription.is_subscribed:
            raise Refuse(ErrorCode.PERMISSION_DENIED)
        grant = hub.tokens.subscription(request.token, self.client.user.id, request.channel)
        await trio.lowlevel.checkpoint()
        return line(hub.codec, subscription.refresh(grant))

    # -- begun by the server

    async def join(self, channels: Iterable[str], wanted: Mapping[str, Since]) -> Joining:
        """Begin those that the connection begins with; returns when each has a result or has ended.

        They go on when the client has been told, which ``connected`` says.
        """
        names = dict.fromkeys(channels)
        joining = Joining(len(names))
        for channel in names:
            self.begin_by_server(channel, joining, wanted.get(channel))
        if names:
            await joining.settled.wait()
        joining.results = {
            channel: result
            for channel, result in joining.results.items()
            if self.client.is_subscribed(channel)
        }
        return joining

    def begin_by_server(
        self, channel: str, joining: Joining | None = None, since: Since | None = None
    ) -> None:
        """Begin a subscription that the client has not asked for; one that is not possible is left out."""
        if joining is None and self._later is not None:
            self._later.append(channel)
            return
        try:
            self._begin(requests.Subscribe(channel, since=since), joining=joining)
        except Refuse:
            if joining is not None:
                joining.settle()

    def connected(self, joining: Joining) -> None:
        """The client has been told of those that the connection begins with; others may follow."""
        joining.told.set()
        later, self._later = self._later or (), None
        for channel in later:
            self.client.subscribe(channel)
