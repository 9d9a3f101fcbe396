"""The Redis servers in use: which they are, and a connection to each for commands and for subscriptions."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import Protocol

import attrs
import trio

from .base import BrokerUnavailable
from .redis_carriers import Carriers
from .redis_cluster import Layout, discover
from .redis_connection import Reply
from .redis_errors import CommandFailed, ConnectionLost, NotInCharge, NotSent, RedisError
from .redis_link import Link
from .redis_patience import Patience, pause
from .redis_url import Address, RedisUrl

logger = logging.getLogger("trio_ws_app.broker")


class Subscriptions(Protocol):
    """What is subscribed, at the servers in charge; told when those or their connections change."""

    def place_all(self) -> None: ...
    def lose_link(self, link: Link, why: str) -> None: ...
    def message(self, link: Link, channel: bytes, payload: bytes) -> None: ...
    def dropped(self, link: Link, channel: bytes) -> None: ...


class Deployment:
    """One server, a primary with replicas, or a cluster.

    Commands and subscriptions have a connection each for every server in use, so that a flood of messages
    to this process does not hold up its commands.
    """

    def __init__(self, url: RedisUrl, layout: Layout, carriers: Carriers) -> None:
        self.layout = layout
        self.timeouts = url.timeouts
        self.patience = Patience(url.timeouts.request)
        self._url = url
        self._carriers = carriers
        self._commands: dict[Address, Link] = {}
        self._subscribers: dict[Address, Link] = {}
        self._subscriptions: Subscriptions  # from ``start`` on
        self._changed = trio.Event()  # replaced when a connection comes or goes or the layout changes
        self._away_since: float | None = None
        self._layout_is_wrong = trio.Event()

    async def start(self, subscriptions: Subscriptions) -> None:
        """Start to connect, and wait until that worked everywhere or a connection's time is over."""
        self._subscriptions = subscriptions
        self._carriers.start_soon(self.patience.run)
        self._carriers.start_soon(self._keep_layout)
        self._connect_for_commands()
        with trio.move_on_after(self.timeouts.connect):
            while self.problem is not None:
                await self._changed.wait()

    @property
    def problem(self) -> str | None:
        return next((link.problem for link in self._links() if link.problem is not None), None)

    @property
    def publish_command(self) -> bytes:
        return b"SPUBLISH" if self.layout.sharded else b"PUBLISH"

    # -- commands

    async def call(self, channel: bytes, command: Callable[[], tuple[bytes, ...]], size: int) -> Reply:
        """Have a command carried out by the server in charge of ``channel`` and return its reply.

        Waits for Redis to come back, for a server to be in charge, and for room for ``size`` bytes, together
        as long as its ``patience`` lasts. ``command()`` makes it when it can be sent, so that what waits is
        not encoded yet.

        Raises:
            CommandFailed: there is no reply.
            RedisError: Redis refuses.
        """
        sent = False
        with self.patience.limit():
            while True:
                server = self.layout.server_for(channel)
                connection = None if server is None else self._commands[server].connection
                if connection is None:
                    await self._changed.wait()
                    continue
                await connection.wait_for_room(size)
                sent = True
                reply = await connection.request(*command())
                if not isinstance(reply, RedisError):
                    return reply
                if isinstance(reply, ConnectionLost) and not isinstance(reply, NotSent):
                    raise CommandFailed(str(reply), sent=True)
                sent = False
                if isinstance(reply, NotInCharge):
                    self.look_for_servers()
                elif not isinstance(reply, NotSent):
                    raise reply
                await self._changed.wait()
        if sent:
            raise CommandFailed(f"Redis does not answer within {self.patience.seconds:g} s", sent=True)
        raise CommandFailed(self.problem or "Redis does not take it", sent=False)

    # -- connections

    def subscriber_for(self, channel: bytes) -> Link | None:
        """The link for subscriptions to the server in charge of ``channel``, made with the first use."""
        server = self.layout.server_for(channel)
        if server is not None and server not in self._subscribers:
            self._subscribers[server] = self._start(server)
        return None if server is None else self._subscribers[server]

    def _connect_for_commands(self) -> None:
        for server in self.layout.servers - self._commands.keys():
            self._commands[server] = self._start(server)

    def _start(self, server: Address) -> Link:
        link = Link(server, self._url, self._link_changed)
        on_message = partial(self._subscriptions.message, link)
        on_dropped = partial(self._subscriptions.dropped, link)
        self._carriers.start_soon(link.run, on_message, on_dropped, name=f"Redis at {server}")
        return link

    def _links(self) -> tuple[Link, ...]:
        return (*self._commands.values(), *self._subscribers.values())

    def _link_changed(self, link: Link) -> None:
        if link.connection is not None:
            self._subscriptions.place_all()
        else:
            self._subscriptions.lose_link(link, link.problem or "Redis was away")
            several = len(self.layout.servers) > 1 or len(self._url.addresses) > 1
            if self.layout.sharded or several or self._url.service is not None:
                self.look_for_servers()
        self._note_change()

    def _note_change(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        lost = next((link for link in self._links() if link.is_lost), None)
        if lost is not None and self._away_since is None:
            self._away_since = trio.current_time()
            logger.warning("%s", lost.problem)
        elif lost is None and self._away_since is not None:
            logger.info("Redis is back after %.1f s", trio.current_time() - self._away_since)
            self._away_since = None

    # -- the layout

    def look_for_servers(self) -> None:
        """Ask anew which server is in charge of what."""
        self._layout_is_wrong.set()

    async def _keep_layout(self) -> None:
        while True:
            await self._layout_is_wrong.wait()
            self._layout_is_wrong = trio.Event()
            known = random.sample(sorted(self.layout.servers, key=str), len(self.layout.servers))
            candidates = self._url.addresses if self._url.service else (*known, *self._url.addresses)
            try:
                self._use_layout(await discover(candidates, self._url))
            except BrokerUnavailable:
                self._layout_is_wrong.set()
            await pause(self.timeouts.backoff)

    def _use_layout(self, layout: Layout) -> None:
        self.layout = attrs.evolve(layout, sharded=self.layout.sharded)  # as topics are subscribed
        for links in (self._commands, self._subscribers):
            for server in links.keys() - layout.servers:
                links.pop(server).scope.cancel()
        self._connect_for_commands()
        self._subscriptions.place_all()
        self._note_change()
