"""Queries of a channel: its presence, and its history."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from ..broker.delivery import Delivery, Gap
from ..broker.position import Position
from .codes import ErrorCode, Refuse
from .hub import Hub
from .places import Place, at_most, parse_epoch
from .publications import ClientInfo, line, publications_among, with_publications
from .requests import Since
from .topic import info_of


async def present(hub: Hub, channel: str) -> list[ClientInfo]:
    """The clients that are present. Raises ``Refuse`` with 108 for a channel without presence."""
    rule, _ = hub.rules.find(channel)
    if not rule.presence:
        raise Refuse(ErrorCode.NOT_AVAILABLE)
    members = await hub.broker.presence(hub.checked(channel))
    return [info for member in members if (info := info_of(member.info)) is not None]


@attrs.frozen
class Page:
    """Publications of a channel, the oldest first or last, and the place of the newest one that is kept."""

    deliveries: Sequence[Delivery]
    top: Place


async def page_of(hub: Hub, channel: str, limit: int, since: Since | None, reverse: bool) -> Page:
    """What is kept of a channel after ``since``, or before it in ``reverse``; -1 is no ``limit``.

    Raises:
        Refuse: with 108 the channel has no history, with 112 it does not reach back to ``since``.
        BrokerUnavailable: it could not be read in time.
    """
    rule, _ = hub.rules.find(channel)
    if rule.history is None:
        raise Refuse(ErrorCode.NOT_AVAILABLE)
    topic, most = hub.checked(channel), hub.limits.max_history
    limit = most if limit < 0 else min(limit, most)
    newest = await hub.broker.history(topic, limit=1, reverse=True)
    top = Place(newest[0].position if newest and isinstance(newest[0], Delivery) else None)
    position = None if since is None else _position(since, top)
    if not limit:
        return Page((), top)
    found = await hub.broker.history(
        topic,
        since=None if reverse else position,
        before=position if reverse else None,
        limit=limit,
        reverse=reverse,
    )
    deliveries = [item for item in found if not isinstance(item, Gap)]
    if len(deliveries) < len(found):
        raise Refuse(ErrorCode.UNRECOVERABLE_POSITION)
    return Page(at_most(deliveries, hub.limits.max_recovered_bytes), top)


def page_text(hub: Hub, channel: str, page: Page) -> str:
    """A page as the result of a command."""
    texts = publications_among(page.deliveries, channel, hub.texts.text_of)
    result = line(hub.codec, {"epoch": page.top.epoch, "offset": page.top.offset})
    return with_publications(result, texts)


def presence_fields(infos: Sequence[ClientInfo]) -> dict[str, object]:
    """The clients that are present, as the result of a command."""
    return {"presence": {info.client: info.as_json() for info in infos}}


def stats_fields(infos: Sequence[ClientInfo]) -> dict[str, object]:
    """The numbers of clients and users that are present, as the result of a command."""
    return {"num_clients": len(infos), "num_users": len({info.user for info in infos})}


def _position(since: Since, top: Place) -> Position | None:
    """The position that a client means; None if it means the beginning."""
    known = parse_epoch(since.epoch) if since.epoch else top
    if known is None:
        raise Refuse(ErrorCode.UNRECOVERABLE_POSITION)
    if not since.offset:
        return None
    if known.position is None:
        raise Refuse(ErrorCode.UNRECOVERABLE_POSITION)
    exact = known.position.offset == since.offset
    return known.position if exact else Position(known.position.epoch, since.offset, "")
