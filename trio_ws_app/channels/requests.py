"""What a client can ask for, as values; the names and the meaning are those of ``client.proto``."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from .codes import Refuse


@attrs.frozen
class Since:
    """A place in a channel, as clients name it."""

    epoch: str
    offset: int


class Request:
    """What one command asks for."""

    __slots__ = ()


@attrs.frozen
class Connect(Request):
    token: str
    data: object
    name: str
    version: str
    headers: Mapping[str, str]
    subscriptions: Mapping[str, Since]  # of the server's, those that the client wants to recover


@attrs.frozen
class Subscribe(Request):
    channel: str
    token: str = ""
    data: object = None
    since: Since | None = None
    reject_unrecovered: bool = False
    join_leave: bool = False


@attrs.frozen
class Unsubscribe(Request):
    channel: str


@attrs.frozen
class Publish(Request):
    channel: str
    data: object


@attrs.frozen
class Presence(Request):
    channel: str


@attrs.frozen
class PresenceStats(Request):
    channel: str


@attrs.frozen
class History(Request):
    channel: str
    limit: int
    since: Since | None
    reverse: bool


@attrs.frozen
class Rpc(Request):
    method: str
    data: object


@attrs.frozen
class Send(Request):
    data: object


@attrs.frozen
class Refresh(Request):
    token: str


@attrs.frozen
class SubRefresh(Request):
    channel: str
    token: str


@attrs.frozen
class Command:
    """A request with the number that its reply repeats. A pong has no request, a refused one its refusal.

    ``size`` is that of its JSON, in characters: what it may keep while it is not answered.
    """

    id: int
    request: Request | Refuse | None
    size: int = 0
