"""Publications: at the broker, in pushes, and as values.

At the broker a publication is a JSON object as text: its ``data``, the ``info`` of the client that has
published it, if one has, and ``tags``. A push has that text with the offset behind it, so that a publication
is encoded once for the broker and once by each process for all its subscribers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import attrs

from ..broker.delivery import Delivery
from ..broker.position import Position
from ..broker.recent import RecentForms
from ..connection import Message
from ..json_codec import JsonCodec

logger = logging.getLogger("trio_ws_app.channels")

_FIELDS = {"data", "info", "tags"}

Read = TypeVar("Read")


def line(codec: JsonCodec, value: object) -> str:
    """``value`` as JSON on one line: lines are what separates replies."""
    return codec.encode(value).replace("\n", " ")


@attrs.frozen
class ClientInfo:
    """A client as others are told of it: its user, its own id, and what is said of both.

    ``info`` is what its user has beside the id, ``channel_info`` what was said for one channel: JSON values.
    """

    user: str
    client: str
    info: object = None
    channel_info: object = None

    def as_json(self) -> dict[str, object]:
        """As the protocol has it."""
        fields: dict[str, object] = {"user": self.user, "client": self.client}
        if self.info is not None:
            fields["conn_info"] = self.info
        if self.channel_info is not None:
            fields["chan_info"] = self.channel_info
        return fields

    @classmethod
    def from_json(cls, value: object) -> ClientInfo | None:
        """What ``as_json`` has returned; None if it is anything else."""
        if not isinstance(value, dict):
            return None
        user, client = value.get("user"), value.get("client")
        if not isinstance(user, str) or not isinstance(client, str):
            return None
        return cls(user, client, value.get("conn_info"), value.get("chan_info"))


def presence_fields(infos: Sequence[ClientInfo]) -> dict[str, object]:
    """The clients that are present, as the result of a command."""
    return {"presence": {info.client: info.as_json() for info in infos}}


def stats_fields(infos: Sequence[ClientInfo]) -> dict[str, object]:
    """The numbers of clients and users that are present, as the result of a command."""
    return {"num_clients": len(infos), "num_users": len({info.user for info in infos})}


@attrs.frozen
class Publication:
    """One message of a channel, a JSON value, and who has published it if a client has.

    ``position`` is its place in the channel's history, or None if it is not kept.
    """

    data: object
    info: ClientInfo | None = None
    tags: Mapping[str, str] = attrs.field(factory=dict)
    position: Position | None = None

    def encode(self, codec: JsonCodec) -> str:
        """As text for the broker. Raises TypeError or ValueError for what is no JSON."""
        fields: dict[str, object] = {"data": self.data}
        if self.info is not None:
            fields["info"] = self.info.as_json()
        if self.tags:
            fields["tags"] = dict(self.tags)
        return line(codec, fields)

    @classmethod
    def decode(cls, delivery: Delivery, codec: JsonCodec) -> Publication:
        """What has come from the broker. Raises ValueError for what is no publication."""
        fields = _fields(delivery.message, codec)
        tags = fields.get("tags") or {}
        assert isinstance(tags, dict)
        return cls(fields["data"], ClientInfo.from_json(fields.get("info")), tags, delivery.position)


def _fields(message: Message, codec: JsonCodec) -> Mapping[str, object]:
    try:
        fields = codec.loads(message)
    except Exception as error:  # each library has errors of its own
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(fields, dict) or "data" not in fields or not fields.keys() <= _FIELDS:
        raise ValueError("not an object with data, and perhaps info and tags")
    if "info" in fields and ClientInfo.from_json(fields["info"]) is None:
        raise ValueError("its info is none of a client")
    tags = fields.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(tag, str) for tag in tags.values()):
        raise ValueError("its tags are no texts")
    return fields


@attrs.define(eq=False)
class Texts:
    """Publications as JSON, the recent ones of all channels kept."""

    codec: JsonCodec
    _recent: RecentForms[str] = attrs.field(factory=RecentForms, init=False)

    def text_of(self, delivery: Delivery) -> str:
        """A publication as a push has it. Raises ValueError for what is none."""
        return self._recent.form_of(delivery, self._make)

    def _make(self, delivery: Delivery) -> str:
        _fields(delivery.message, self.codec)
        message = delivery.message
        text = (message if isinstance(message, str) else message.decode()).strip().replace("\n", " ")
        position = delivery.position
        if position is None:
            return text
        return f'{text[:-1]},"offset":{position.offset},"epoch":"{position}"}}'


def publications_among(
    deliveries: Sequence[Delivery], channel: str, read: Callable[[Delivery], Read]
) -> list[Read]:
    """What ``read`` makes of each publication that is kept; what is none, it refuses with ValueError."""
    found = []
    for delivery in deliveries:
        try:
            found.append(read(delivery))
        except ValueError as error:
            logger.warning("what is kept of the channel %r is no publication: %s", channel, error)
    return found


def push_text(channel: str, kind: str, content: str) -> str:
    """A push: ``channel`` and ``content`` are JSON texts."""
    return f'{{"push":{{"channel":{channel},"{kind}":{content}}}}}'


def with_publications(result: str, texts: Sequence[str]) -> str:
    """A result, the text of an object that is not empty, with publications."""
    return f'{result[:-1]},"publications":[{",".join(texts)}]}}' if texts else result
