"""JSON as messages: which functions write and read it, and what becomes of bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import isinf
from typing import NoReturn, TypeVar

import attrs

from .errors import InvalidMessage

Value = TypeVar("Value")


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"JSON has no {name}")


def _finite(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise ValueError("a number is too large")
    return number


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)

# Non-ASCII text is escaped: half a surrogate pair, which JSON may have and UTF-8 may not, can be sent on.
dumps = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def loads(message: str | bytes) -> object:
    """What ``dumps`` can write again: neither NaN nor a number beyond a float, which ``json.loads`` takes."""
    value: object = _DECODER.decode(message if isinstance(message, str) else message.decode())
    return value


@attrs.frozen
class JsonCodec:
    """How values become messages, and messages values: by ``json``, or another library's functions.

    ``JsonCodec(orjson.dumps, orjson.loads)`` and ``JsonCodec(msgspec.json.encode, msgspec.json.decode)`` are
    faster. ``App(handler, json=codec)`` and ``Settings(json=codec)`` give it to connections; a broadcast is
    ``room.broadcast(codec.encode(value))``.
    """

    dumps: Callable[[object], str | bytes] = dumps
    loads: Callable[[str | bytes], object] = loads

    def encode(self, value: object) -> str:
        """``value`` as a text message. Raises what ``dumps`` does: TypeError or ValueError, by default."""
        text = self.dumps(value)
        return text if isinstance(text, str) else text.decode()

    def decode(self, message: str | bytes, convert: Callable[[object], Value]) -> Value:
        """The value in a text or binary message, as ``convert`` returns it.

        Raises InvalidMessage for what is no JSON, or if ``convert`` raises anything.
        """
        try:
            value = self.loads(message)
        except Exception as error:  # each library has errors of its own; deep nesting is a RecursionError
            raise InvalidMessage(f"the message is no JSON: {error}") from error
        try:
            return convert(value)
        except Exception as error:
            raise InvalidMessage(f"the message has not the right form: {error}") from error


def unchanged(value: object) -> object:
    """The converter of those that want none."""
    return value
