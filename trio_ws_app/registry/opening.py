"""``open_registry``: a registry as a block, and the registries that are open in a Trio run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from ..broker.base import Broker
from ..broker.history import History
from ..broker.memory import MemoryBroker
from ..callbacks import in_place
from ..concurrency.background import background
from ..wire.overflow import Overflow
from .registry import Member, Registry
from .topics import Envelope, OnGap, OnPresence, TopicHooks

_open_registries: trio.lowlevel.RunVar[frozenset[Registry[Any]]] = trio.lowlevel.RunVar("open registries")


@asynccontextmanager
async def open_registry(
    *,
    overflow: Overflow | str = Overflow.DISCONNECT,
    broker: Broker | None = None,
    history: Mapping[str, History] | None = None,
    on_gap: OnGap | None = None,
    envelope: Envelope | None = None,
    on_presence: OnPresence | None = None,
) -> AsyncIterator[Registry[Any]]:
    """A registry that lives as long as the block.

    What it remembers of each member is told to type checkers with ``room: Registry[str]`` on a line
    before ``async with open_registry() as room``.

    ``overflow`` is what happens to a broadcast for a member whose queue is full: ``"disconnect"``
    (1013), ``"drop-newest"``, ``"drop-oldest"`` or ``"latest"``, which keeps one message for each key of
    ``broadcast`` and for each topic.

    ``broker`` carries what is published to the topics that members follow; without one they stay within
    this registry. ``history`` says how much is kept of which topics: ``{"room:*": History(100, 300)}``,
    where ``*`` stands for any text and the most specific pattern holds.

    ``on_gap(topic, gap)`` is called when messages of a topic may have been lost: what it returns is sent
    to the topic's followers, or to the one that returned too late; None sends nothing.
    ``envelope(topic, message, position)`` makes what followers are sent of a message, once a message and
    process; a client that is sent positions can come back with the last one. If it fails, that is logged, and
    what ``on_gap`` says of a gap stands in the place of the message.
    ``on_presence(topic, event)``, with a ``Join`` or ``Leave``, says what members that follow with
    ``presence`` are sent of the others; None sends nothing.
    These are plain functions. If ``on_gap`` or ``on_presence`` fails, that is logged, and nothing is sent;
    ``follow`` raises what ``on_gap`` raises about the past of its own member.

    Leaving the block closes the members with 1001, cancels their blocks, and waits until the last one
    has left, so nothing that was registered outlives it (G4). That wait is not cancelled: it ends when
    the members' clean-up does. Raises ValueError for an unknown policy.
    """
    hooks = TopicHooks(
        None if on_gap is None else in_place(on_gap),
        None if envelope is None else in_place(envelope),
        None if on_presence is None else in_place(on_presence),
    )
    policy = Overflow(overflow)
    registry: Registry[Any] | None = None
    try:
        async with background() as nursery:
            registry = Registry(
                policy, broker or MemoryBroker(nursery), hooks=hooks, history=history or {}, nursery=nursery
            )
            _open_registries.set(_open_registries.get(frozenset()) | {registry})
            try:
                yield registry
            finally:
                _open_registries.set(_open_registries.get() - {registry})
                registry._begin_closing()
    finally:
        if registry is not None:
            await registry._wait_left()


def members_of_run() -> Iterator[Member[Any]]:
    """The members of all registries that are open in this Trio run, for inspection."""
    for registry in _open_registries.get(frozenset()):
        yield from registry
