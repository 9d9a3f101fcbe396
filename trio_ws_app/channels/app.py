"""``ChannelsApp``: the handler that ``Channels`` becomes."""

from __future__ import annotations

from ..asgi.application import Application
from ..connection import Connection
from .api import ServerApi
from .clients import Clients
from .hub import Hub
from .interface import ChannelClient
from .operations import Operations
from .session import Session


class ChannelsApp(Operations):
    """A handler that speaks Centrifugo's protocol, and what a program may do with its channels and clients.

    Made by ``Channels.app``. Its methods reach the clients of every process that shares the broker. They
    raise ``Refuse`` with 102 for a channel that no function is for, 107 for a name that is too long, and
    BrokerUnavailable if the broker does not answer in time.
    """

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self._clients = Clients(hub.codec)

    async def __call__(self, connection: Connection) -> None:
        """Serve one connection until it is over."""
        await Session(connection, self.hub, self._clients).serve()

    @property
    def clients(self) -> list[ChannelClient]:
        """The clients that are connected to this process now."""
        return list(self._clients)

    def api(self, key: str, *, max_body: int = 1024 * 1024) -> Application:
        """Centrifugo's server API over HTTP, as an ASGI application: ``App(app, http=app.api(key))``.

        ``POST /api/publish`` and others take a JSON object of up to ``max_body`` bytes, with the key
        in ``X-API-Key``; the README beside this file lists them.

        Raises ValueError for a key of less than 16 characters.
        """
        return ServerApi(self, key, max_body)
