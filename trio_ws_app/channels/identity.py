"""A client's user, and until when: the application is asked as the client connects and refreshes."""

from __future__ import annotations

import attrs

from ..callbacks import await_interruptible
from .client import ConnectedClient
from .codes import DisconnectCode, ErrorCode, Refuse
from .commands import bad_request
from .interface import ConnectRequest, User
from .limits import deadline, expiry_fields
from .publications import line


@attrs.frozen
class Identity:
    """Sets the ``user`` of a client, and the time at which the connection ends."""

    client: ConnectedClient

    async def connect(self, request: ConnectRequest) -> dict[str, object]:
        """Ask the application for the client's user; returns the command's result, without its subscriptions.

        Raises what the application does; ``Refuse`` with 110 if the user's time is over already, with 3505 if
        there are too many channels to begin with.
        """
        user = await self._ask(request)
        if len(user.channels) > self.client.hub.limits.max_channels:
            raise Refuse(DisconnectCode.CHANNEL_LIMIT)
        result: dict[str, object] = {"ping": self.client.hub.limits.ping_interval, "pong": True}
        if user.data is not None:
            result["data"] = user.data
        return result | self._take(user)

    async def refresh(self, request: ConnectRequest) -> dict[str, object]:
        """Ask again, with the new token in ``request``; returns the result of the command.

        Raises what the application does; ``Refuse`` with 108 if there is nothing to ask, with 3500 if the
        client is another user now.
        """
        if self.client.hub.rules.connect is None and self.client.hub.tokens is None:
            raise Refuse(ErrorCode.NOT_AVAILABLE)
        if not request.token:
            raise bad_request()
        user = await self._ask(request)
        if user.id != self.client.user.id:
            raise Refuse(DisconnectCode.INVALID_TOKEN)
        return self._take(user)

    async def _ask(self, request: ConnectRequest) -> User:
        function = self.client.hub.rules.connect
        if function is None:
            return User() if self.client.hub.tokens is None else self.client.hub.tokens.user(request.token)
        user = await await_interruptible(function(request))
        if not isinstance(user, User):
            raise TypeError(f"the function for connect returns a User, not {type(user).__name__}")
        return user

    def _take(self, user: User) -> dict[str, object]:
        """From now on the client is this user, until the user's time is over."""
        info = attrs.evolve(self.client.info, user=user.id, info=user.info)
        line(self.client.hub.codec, info.as_json())  # raises an error now rather than where it is told
        ends_at = deadline(user.expires_at, self.client.hub.limits.expiry_delay)
        times = expiry_fields(user.expires_at)
        self.client.user = user
        self.client.scope.deadline = ends_at
        return {"client": self.client.id, "version": "trio_ws_app", **times}
