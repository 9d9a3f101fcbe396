"""What a program may do with channels and clients, in every process that shares the broker."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ..broker.position import Position
from .clients import Order
from .codes import DisconnectCode, UnsubscribeCode
from .hub import Hub
from .publications import ClientInfo, Publication, publications_among
from .requests import History, Since


class Operations:
    """The methods of a ``ChannelsApp``; what they raise is told there. ``hub`` is what its clients share."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

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
        rule, _ = self.hub.rules.find(channel)
        publication = Publication(data, info, tags or {})
        return await self.hub.publish(channel, publication, rule.history if keep else None, idempotency_key)

    async def presence(self, channel: str) -> list[ClientInfo]:
        """The clients that are present on ``channel``. Raises ``Refuse`` with 108 if it has no presence."""
        return await self.hub.presence(channel)

    async def history(
        self, channel: str, *, limit: int = -1, since: Position | None = None, reverse: bool = False
    ) -> list[Publication]:
        """The publications of ``channel`` that are kept, the oldest first, or with ``reverse`` the newest.

        ``since`` leaves out what does not come after that position, or with ``reverse`` before it.

        Raises ``Refuse`` with 108 if the channel has no history, 112 if it does not reach back to ``since``.
        """
        place = None if since is None else Since(str(since), since.offset)
        page = await self.hub.history(History(channel, limit, place, reverse))
        read = partial(Publication.decode, codec=self.hub.codec)
        return publications_among(page.deliveries, channel, read)

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
        await self._order(Order("unsubscribe", user, client, channel, code, reason))

    async def subscribe(self, user: str, channel: str, *, client: str = "") -> None:
        """Subscribe the user's connections to ``channel``, as if they had asked; its handler may refuse."""
        self.hub.rules.find(channel)
        await self._order(Order("subscribe", user, client, channel))

    async def _order(self, order: Order) -> None:
        await self.hub.broker.publish(self.hub.prefix, order.encode(self.hub.codec))
