"""What a client says of itself when it connects or refreshes, and the user that is the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from ..request import Request


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
