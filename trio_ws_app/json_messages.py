"""``json_messages``: the consumer's loop over values instead of messages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Generic, Literal, TypeVar, overload

from .callbacks import refuse_coroutine
from .connection import Connection, Message
from .errors import MAX_REASON_BYTES, CloseCode, ConnectionClosed, InvalidMessage
from .json_codec import unchanged

Value = TypeVar("Value")
OnError = Literal["close", "ignore"] | Callable[[InvalidMessage], Message | None]


class JsonMessages(AsyncIterator[Value], Generic[Value]):
    """What ``json_messages`` iterates over."""

    def __init__(self, connection: Connection, convert: Callable[[object], Value], on_error: OnError) -> None:
        self._connection = connection
        self._convert = convert
        self._on_error = on_error

    async def __anext__(self) -> Value:
        """The next value. When cancelled, nothing is lost (G3)."""
        try:
            while True:
                try:
                    return await self._connection.receive_json(self._convert)
                except InvalidMessage as error:
                    await self._answer(error)
        except ConnectionClosed:
            raise StopAsyncIteration from None

    async def _answer(self, error: InvalidMessage) -> None:
        if callable(self._on_error):
            answer = self._on_error(error)
            refuse_coroutine(self._on_error, answer, "on_error is a plain function")
            if answer is not None:
                await self._connection.send(answer)
        elif self._on_error == "close":
            reason = str(error).encode()[:MAX_REASON_BYTES].decode(errors="ignore")
            await self._connection.aclose(CloseCode.INVALID_PAYLOAD, reason)
            raise StopAsyncIteration


@overload
def json_messages(connection: Connection, *, on_error: OnError = "close") -> JsonMessages[object]: ...
@overload
def json_messages(
    connection: Connection, convert: Callable[[object], Value], *, on_error: OnError = "close"
) -> JsonMessages[Value]: ...
def json_messages(
    connection: Connection, convert: Callable[[object], object] = unchanged, *, on_error: OnError = "close"
) -> JsonMessages[object] | JsonMessages[Value]:
    """The values that come over ``connection``, for ``async for``, until it is over.

    ``convert`` makes what the application works with of each: ``partial(msgspec.convert, type=Move)``,
    ``Move.model_validate`` of pydantic, ``lambda value: cattrs.structure(value, Move)``.

    ``on_error`` is what happens to a message that is no JSON, or that ``convert`` raises for: ``"close"``
    closes with 1007 and ends the loop, ``"ignore"`` goes on, and a function ``on_error(error)`` returns
    the message to answer with, or None for no answer. Raises ValueError for another policy.
    """
    if on_error not in ("close", "ignore") and not callable(on_error):
        raise ValueError(f"on_error is 'close', 'ignore' or a function, not {on_error!r}")
    return JsonMessages(connection, convert, on_error)
