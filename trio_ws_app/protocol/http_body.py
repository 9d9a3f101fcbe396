"""The body of a request, as h11 decodes it."""

from __future__ import annotations

import h11


class BodyError(Exception):
    """What the client sends is no body, or one that is too large: ``status`` says which."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class RequestBody:
    """Decodes a body, of a known length or chunked, from what h11 has and what is fed."""

    def __init__(self, connection: h11.Connection, limit: int | None) -> None:
        self.complete = False
        self.size = 0  # decoded bytes so far
        self._h11 = connection
        self._limit = limit

    @property
    def awaits_continue(self) -> bool:
        """Whether the client sends no body before it gets a 100 (RFC 9110, section 10.1.1)."""
        return bool(self._h11.they_are_waiting_for_100_continue)

    def feed(self, data: bytes) -> list[bytes]:
        """Take what the client sent; return what is known of the body by that.

        Raises BodyError.
        """
        if data:
            self._h11.receive_data(data)
        pieces: list[bytes] = []
        while not self.complete:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise BodyError(error.error_status_hint, "The request's body is not valid.") from None
            if isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
                self.size += len(event.data)
                if self._limit is not None and self.size > self._limit:
                    raise BodyError(413, "The request's body is too large.")
            elif isinstance(event, h11.EndOfMessage):
                self.complete = True
            else:
                break
        return pieces

    def trailing(self) -> bytes:
        """What came behind a complete body: the beginning of the next request."""
        data, _ended = self._h11.trailing_data
        return bytes(data)
