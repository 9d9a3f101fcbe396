"""The clients that are connected to this process, and orders to them from any process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

import attrs

from ..broker.delivery import Gap, Item
from ..json_codec import JsonCodec
from .client import ConnectedClient
from .codes import DisconnectCode, Refuse, disconnection, unsubscription
from .commands import Fields

_LONG: Final = 1 << 20  # characters; what the broker carries was bounded where it came from

logger = logging.getLogger("trio_ws_app.channels")


@attrs.frozen
class Order:
    """What is to be done with the connections of a user, or one of them, in every process.

    Raises ValueError for a code or a reason that does not do it.
    """

    what: str
    user: str
    client: str = ""  # the id of the one that is meant; "" is all of the user's
    channel: str = ""
    code: int = 0
    reason: str = ""

    def __attrs_post_init__(self) -> None:
        if self.what == "disconnect":
            disconnection(self.code, self.reason or None)
        elif self.what == "unsubscribe":
            unsubscription(self.code, self.reason or None)
        elif self.what != "subscribe":
            raise ValueError(f"{self.what!r} is nothing that can be done")

    def encode(self, codec: JsonCodec) -> str:
        """As text for the broker."""
        return codec.encode(attrs.asdict(self))

    @classmethod
    def decode(cls, message: str | bytes, codec: JsonCodec) -> Order:
        """Raises an exception for what is none."""
        fields = Fields(codec.loads(message))
        what, user, client = fields.text("what"), fields.text("user", _LONG), fields.text("client")
        return cls(
            what, user, client, fields.text("channel", _LONG), fields.number("code"), fields.text("reason")
        )


class Clients:
    """The connected clients, by user. Each is listed from its answer to its end."""

    def __init__(self, codec: JsonCodec) -> None:
        self._codec = codec
        self._by_user: dict[str, dict[str, ConnectedClient]] = {}

    def __iter__(self) -> Iterator[ConnectedClient]:
        return iter([client for of_one in self._by_user.values() for client in of_one.values()])

    def add(self, client: ConnectedClient, most: int | None) -> None:
        """List a client. Raises ``Refuse`` with 3504 if its user has ``most`` connections already."""
        user = client.user.id
        if most is not None and user and len(self._by_user.get(user, ())) >= most:
            raise Refuse(DisconnectCode.CONNECTION_LIMIT)
        self._by_user.setdefault(user, {})[client.id] = client

    def discard(self, client: ConnectedClient) -> None:
        """Forget a client, if it is listed."""
        of_user = self._by_user.get(client.user.id, {})
        if of_user.pop(client.id, None) is not None and not of_user:
            del self._by_user[client.user.id]

    def obey(self, item: Item) -> None:
        """An order has come from the broker."""
        if isinstance(item, Gap):
            return
        try:
            order = Order.decode(item.message, self._codec)
        except Exception as error:  # of another program
            logger.warning("what has come for the clients is no order: %s", error)
            return
        of_user = self._by_user.get(order.user, {})
        for client in [one for one in of_user.values() if order.client in ("", one.id)]:
            _obey(client, order)


def _obey(client: ConnectedClient, order: Order) -> None:
    if order.what == "disconnect":
        client.disconnect(order.code, order.reason or None)
    elif order.what == "subscribe":
        client.subscribe(order.channel)
    elif order.channel:
        client.unsubscribe(order.channel, order.code, order.reason or None)
    else:
        for channel in client.channels:
            client.unsubscribe(channel, order.code, order.reason or None)
