"""Django Channels with channels_redis, on daphne: for pubsub only."""

from __future__ import annotations

from daphne.server import Server  # isort: skip  # installs Twisted's asyncio reactor, so it comes first

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from .job import HOST, TOPIC, announce, parse


class NewsConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Passes on what is sent to the group."""

    async def connect(self) -> None:
        """Join the group, then accept."""
        await self.channel_layer.group_add(TOPIC, self.channel_name)
        await self.accept()

    async def disconnect(self, _code: int) -> None:
        """Leave the group."""
        await self.channel_layer.group_discard(TOPIC, self.channel_name)

    async def news(self, event: dict[str, bytes]) -> None:
        """A message of type "news"."""
        await self.send(bytes_data=event["data"])


def configure(url: str) -> None:
    """Django's settings: nothing but the channel layer of the documentation."""
    # Without this, redis-py 8 gives up a connection that waits for messages for as long as the layer lets it.
    host = {"address": url, "socket_timeout": None}
    layer = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [host]}}
    settings.configure(CHANNEL_LAYERS={"default": layer})
    django.setup()


def main() -> None:
    """Serve until terminated."""
    configure(parse().redis)
    server = Server(NewsConsumer.as_asgi(), endpoints=[f"tcp:port=0:interface={HOST}"], ping_interval=86400)
    server.ready_callable = lambda: announce(server.listening_addresses[0][1])
    server.run()


if __name__ == "__main__":
    main()
