"""The methods of the server API: each takes the fields of a request, and returns the result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from ..broker.delivery import Delivery
from ..broker.position import Position
from ..json_codec import JsonCodec
from .codes import DisconnectCode, ErrorCode, Refuse
from .commands import Fields, history_in
from .operations import Operations
from .publications import Publication, presence_fields, publications_among, stats_fields

_MAX_CHANNELS: Final = 10_000  # of one broadcast
_LONG: Final = 1 << 30  # characters; the body has a bound


def error_fields(refusal: Refuse) -> Mapping[str, object]:
    """An error as the API has it; a field or a code that cannot be is a bad request."""
    if not refusal.is_error:
        refusal = Refuse(ErrorCode.BAD_REQUEST)
    return {"code": refusal.code, "message": refusal.message}


def _place(position: Position | None) -> dict[str, object]:
    return {} if position is None else {"offset": position.offset, "epoch": str(position)}


async def _publish_to(operations: Operations, channel: str, fields: Fields) -> object:
    if fields.value("data") is None or fields.text("b64data", _LONG) or fields.number("version"):
        raise Refuse(ErrorCode.BAD_REQUEST)  # no binary data in JSON, and no versions
    position = await operations.publish(
        channel,
        fields.value("data"),
        tags=fields.texts("tags"),
        keep=not fields.switch("skip_history"),
        idempotency_key=fields.text("idempotency_key") or None,
    )
    return _place(position)


async def _publish(operations: Operations, fields: Fields) -> object:
    return await _publish_to(operations, fields.required("channel"), fields)


async def _broadcast(operations: Operations, fields: Fields) -> object:
    channels = fields.value("channels")
    if not isinstance(channels, list) or not channels or len(channels) > _MAX_CHANNELS:
        raise Refuse(ErrorCode.BAD_REQUEST)
    responses: list[object] = []
    for channel in channels:
        try:
            if not isinstance(channel, str) or not channel:
                raise Refuse(ErrorCode.BAD_REQUEST)
            responses.append({"result": await _publish_to(operations, channel, fields)})
        except Refuse as refusal:
            responses.append({"error": error_fields(refusal)})
    return {"responses": responses}


async def _presence(operations: Operations, fields: Fields) -> object:
    return presence_fields(await operations.presence(fields.required("channel")))


async def _presence_stats(operations: Operations, fields: Fields) -> object:
    return stats_fields(await operations.presence(fields.required("channel")))


async def _history(operations: Operations, fields: Fields) -> object:
    request = history_in(fields)
    page = await operations.hub.history(request)
    read = partial(_publication, codec=operations.hub.codec)
    publications = publications_among(page.deliveries, request.channel, read)
    return {"publications": publications, "offset": page.top.offset, "epoch": page.top.epoch}


def _publication(delivery: Delivery, codec: JsonCodec) -> object:
    publication = Publication.decode(delivery, codec)
    fields: dict[str, object] = {"data": publication.data, **_place(delivery.position)}
    if publication.info is not None:
        fields["info"] = publication.info.as_json()
    return {**fields, "tags": publication.tags} if publication.tags else fields


async def _disconnect(operations: Operations, fields: Fields) -> object:
    advice = Fields(fields.value("disconnect") or {})
    await operations.disconnect(
        fields.required("user"),
        client=fields.text("client"),
        code=advice.number("code") or DisconnectCode.FORCE_NO_RECONNECT,
        reason=advice.text("reason"),
    )
    return {}


async def _unsubscribe(operations: Operations, fields: Fields) -> object:
    await operations.unsubscribe(
        fields.required("user"),
        fields.text("channel", _LONG),
        client=fields.text("client"),
    )
    return {}


async def _subscribe(operations: Operations, fields: Fields) -> object:
    await operations.subscribe(
        fields.required("user"), fields.required("channel"), client=fields.text("client")
    )
    return {}


METHODS: Final[Mapping[str, Callable[[Operations, Fields], Awaitable[object]]]] = {
    "publish": _publish,
    "broadcast": _broadcast,
    "presence": _presence,
    "presence_stats": _presence_stats,
    "history": _history,
    "disconnect": _disconnect,
    "unsubscribe": _unsubscribe,
    "subscribe": _subscribe,
}
