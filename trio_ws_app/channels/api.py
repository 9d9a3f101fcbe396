"""Centrifugo's server API over HTTP: what backends in other languages publish, ask and order with.

``POST /api/METHOD`` with a JSON object; the answer is 200 with ``result`` or ``error``. The names and the
meaning are those of Centrifugo's documentation, "Server API walkthrough".
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping
from typing import Final

import attrs

from ..asgi.application import Receive, Scope, Send
from ..broker.base import BrokerUnavailable
from ..json_codec import JsonCodec
from .api_methods import METHODS, error_fields
from .codes import ErrorCode, Refuse
from .commands import Fields
from .operations import Operations
from .publications import line

_MIN_KEY: Final = 16  # characters

logger = logging.getLogger("trio_ws_app.channels")


class HttpError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, text: str, header: tuple[bytes, bytes] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = [] if header is None else [header]


@attrs.frozen
class ServerApi:
    """An ASGI application for requests whose path ends with ``/api/METHOD``; others get 404."""

    operations: Operations
    key: str = attrs.field(repr=False)
    max_body: int

    def __attrs_post_init__(self) -> None:
        if len(self.key) < _MIN_KEY:
            raise ValueError(
                f"the key of the API has at least {_MIN_KEY} characters, this one {len(self.key)}"
            )

    @property
    def codec(self) -> JsonCodec:
        """What bodies are read and written with."""
        return self.operations.hub.codec

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"the API answers HTTP, not {scope['type']!r}")
        try:
            method = self._method(scope)
            text = await self._answer(method, await self._read(receive))
            await _respond(send, 200, text, [])
        except HttpError as error:
            await _respond(send, error.status, line(self.codec, {"message": str(error)}), error.headers)

    def _method(self, scope: Scope) -> str:
        _, found, method = str(scope["path"]).rpartition("/api/")
        if not found or (method not in METHODS and method != "batch"):
            raise HttpError(404, "there is no such method")
        if not self._is_allowed(scope["headers"]):
            raise HttpError(401, "the API key is missing or wrong")
        if scope["method"] != "POST":
            raise HttpError(405, "the API is used with POST", (b"allow", b"POST"))
        return method

    def _is_allowed(self, headers: object) -> bool:
        assert isinstance(headers, list | tuple)
        for name, value in headers:
            scheme, _, credentials = bytes(value).partition(b" ")
            given = bytes(value) if name == b"x-api-key" else credentials
            is_one = name == b"x-api-key" or (name == b"authorization" and scheme.lower() == b"apikey")
            if is_one and hmac.compare_digest(given.strip(), self.key.encode()):
                return True
        return False

    async def _read(self, receive: Receive) -> Fields:
        body = b""
        while True:
            event = await receive()
            if event["type"] != "http.request":
                raise HttpError(400, "the request broke off")
            body += event.get("body", b"")
            if len(body) > self.max_body:
                raise HttpError(413, f"the body has at most {self.max_body} bytes")
            if not event.get("more_body", False):
                break
        try:
            return Fields(self.codec.loads(body))
        except Exception:  # each library has errors of its own; deep nesting is a RecursionError
            raise HttpError(400, "the body is no JSON object") from None

    async def _answer(self, method: str, fields: Fields) -> str:
        if method != "batch":
            return line(self.codec, await self._reply(method, fields, "result"))
        commands = fields.value("commands")
        if not isinstance(commands, list):
            raise HttpError(400, "commands is a list")
        replies = [await self._reply_to(command) for command in commands]
        return line(self.codec, {"replies": replies})

    async def _reply_to(self, command: object) -> Mapping[str, object]:
        if not isinstance(command, dict):
            return {"error": error_fields(Refuse(ErrorCode.BAD_REQUEST))}
        name = next((name for name in METHODS if name in command), None)
        if name is None:
            return {"error": error_fields(Refuse(ErrorCode.METHOD_NOT_FOUND))}
        return await self._reply(name, command[name], name)

    async def _reply(self, method: str, value: object, name: str) -> Mapping[str, object]:
        """The reply of one method: its result under ``name``, or an error."""
        try:
            fields = value if isinstance(value, Fields) else Fields(value)
            return {name: await METHODS[method](self.operations, fields)}
        except (Refuse, ValueError, BrokerUnavailable) as error:
            return {"error": error_fields(_refusal(method, error))}


def _refusal(method: str, error: Exception) -> Refuse:
    """What an API client is told of an error."""
    if isinstance(error, BrokerUnavailable):
        logger.warning("the API could not %s: %s", method, error)
        return Refuse(ErrorCode.INTERNAL)
    return error if isinstance(error, Refuse) else Refuse(ErrorCode.BAD_REQUEST)


async def _live(receive: Receive, send: Send) -> None:
    """Begin and end with the server: there is nothing to do for it."""
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def _respond(send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]]) -> None:
    body = text.encode()
    length = str(len(body)).encode()
    fields = [(b"content-type", b"application/json"), (b"content-length", length), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
