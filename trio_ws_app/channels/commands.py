"""What a client says, checked: everything about a command that can be known without looking at the client.

The names and the meaning of the fields are those of ``client.proto`` in the repository centrifugal/protocol.
Frames have a bound before they come here; what is read from them has types and bounds of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from ..json_codec import JsonCodec
from . import requests
from .codes import DisconnectCode, ErrorCode, Refuse
from .requests import Command, Request, Since

_MAX_ID: Final = 2**32 - 1
_MAX_OFFSET: Final = 2**63 - 1
_MAX_TEXT: Final = 256  # characters of names and epochs
_MAX_DEPTH: Final = 100  # of lists and objects; less than any library writes and reads again
_REJECT_UNRECOVERED: Final = 2  # a bit of the flags of a subscribe command

Value = TypeVar("Value")


def bad_request() -> Refuse:
    """The end of a client that does not speak the protocol."""
    return Refuse(DisconnectCode.BAD_REQUEST)


class Fields:
    """Reads the fields of a JSON object, of which one that is absent or null has the empty value.

    Raises ``Refuse`` with 3501 for one of a wrong type, and for one that is too long or too large.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: object) -> None:
        if not isinstance(fields, dict):
            raise bad_request()
        self._fields: Mapping[str, object] = fields

    def value(self, name: str) -> object:
        return self._fields.get(name)

    def _typed(self, name: str, kind: type[Value], empty: Value) -> Value:
        value = self._fields.get(name)
        if value is None:
            return empty
        if not isinstance(value, kind):
            raise bad_request()
        return value

    def text(self, name: str, most: int = _MAX_TEXT) -> str:
        text = self._typed(name, str, "")
        if len(text) > most:
            raise bad_request()
        return text

    def required(self, name: str) -> str:
        """A channel or a user, whose length has other bounds. Raises ``Refuse`` for none at all."""
        text = self.text(name, most=_MAX_ID)
        if not text:
            raise bad_request()
        return text

    def switch(self, name: str) -> bool:
        return self._typed(name, bool, False)

    def number(self, name: str, least: int = 0, most: int = _MAX_OFFSET) -> int:
        number = self._typed(name, int, 0)
        if isinstance(number, bool) or not least <= number <= most:
            raise bad_request()
        return number

    def texts(self, name: str) -> Mapping[str, str]:
        texts = self.objects(name)
        if not all(isinstance(text, str) for text in texts.values()):
            raise bad_request()
        return texts

    def objects(self, name: str) -> dict[str, Any]:
        return self._typed(name, dict, {})


PONG: Final = Command(0, None)
MAX_TOKEN: Final = 16 * 1024


def _since(fields: Fields) -> Since:
    return Since(fields.text("epoch"), fields.number("offset"))


def _connect(fields: Fields) -> requests.Connect:
    wanted = {channel: Fields(value) for channel, value in fields.objects("subs").items()}
    return requests.Connect(
        fields.text("token", MAX_TOKEN),
        fields.value("data"),
        fields.text("name"),
        fields.text("version"),
        fields.texts("headers"),
        {channel: _since(of_one) for channel, of_one in wanted.items() if of_one.switch("recover")},
    )


def _subscribe(fields: Fields) -> requests.Subscribe:
    if fields.number("type"):
        raise Refuse(ErrorCode.NOT_AVAILABLE)  # maps and shared polls
    if fields.value("tf") is not None or fields.text("delta") not in ("", "fossil"):
        raise Refuse(ErrorCode.BAD_REQUEST)  # filters; a delta that is known is declined in the reply
    return requests.Subscribe(
        fields.required("channel"),
        fields.text("token", MAX_TOKEN),
        fields.value("data"),
        _since(fields) if fields.switch("recover") else None,
        bool(fields.number("flag") & _REJECT_UNRECOVERED),
        fields.switch("join_leave"),
    )


def _publish(fields: Fields) -> requests.Publish:
    if fields.number("type"):
        raise Refuse(ErrorCode.NOT_AVAILABLE)
    return requests.Publish(fields.required("channel"), fields.value("data"))


def history_in(fields: Fields) -> requests.History:
    """What page of a channel's history is asked for."""
    since = fields.value("since")
    return requests.History(
        fields.required("channel"),
        fields.number("limit", least=-1, most=2**31 - 1),
        None if since is None else _since(Fields(since)),
        fields.switch("reverse"),
    )


def _sub_refresh(fields: Fields) -> requests.SubRefresh:
    if fields.number("type"):
        raise Refuse(ErrorCode.NOT_AVAILABLE)
    return requests.SubRefresh(fields.required("channel"), fields.text("token", MAX_TOKEN))


def _ping(_fields: Fields) -> Request:
    raise Refuse(ErrorCode.NOT_AVAILABLE)  # reserved: no client sends it, and Centrifugo answers this


_READERS: Final[Mapping[str, Callable[[Fields], Request]]] = {
    "connect": _connect,
    "ping": _ping,
    "subscribe": _subscribe,
    "unsubscribe": lambda fields: requests.Unsubscribe(fields.required("channel")),
    "publish": _publish,
    "presence": lambda fields: requests.Presence(fields.required("channel")),
    "presence_stats": lambda fields: requests.PresenceStats(fields.required("channel")),
    "history": history_in,
    "rpc": lambda fields: requests.Rpc(fields.text("method"), fields.value("data")),
    "send": lambda fields: requests.Send(fields.value("data")),
    "refresh": lambda fields: requests.Refresh(fields.text("token", MAX_TOKEN)),
    "sub_refresh": _sub_refresh,
}


def commands_in(frame: str, codec: JsonCodec) -> Iterator[Command]:
    """The commands of a frame, one a line. Raises ``Refuse`` with 3501 for what is none."""
    for line in frame.split("\n"):
        if line == "{}":
            yield PONG
        elif line and not line.isspace():
            try:
                value = codec.loads(line)
            except Exception:  # each library has errors of its own; deep nesting is a RecursionError
                raise bad_request() from None
            if line.count("[") + line.count("{") > _MAX_DEPTH and _is_too_deep(value):
                raise bad_request()
            yield _command(value, len(line))


def _is_too_deep(value: object) -> bool:
    level: list[Any] = [value]
    for _ in range(_MAX_DEPTH):
        inside = (outer.values() if isinstance(outer, dict) else outer for outer in level)
        level = [inner for values in inside for inner in values if isinstance(inner, list | dict)]
        if not level:
            return False
    return True


def _command(value: object, size: int) -> Command:
    fields = Fields(value)
    number = fields.number("id", most=_MAX_ID)
    name = next((name for name in _READERS if fields.value(name) is not None), None)
    if name is None:
        if number:
            raise bad_request()
        return PONG
    if not number and name != "send":
        raise bad_request()
    try:
        return Command(number, _READERS[name](Fields(fields.value(name))), size)
    except Refuse as refusal:
        if refusal.is_disconnection:
            raise
        return Command(number, refusal, size)
