"""``Refusal``: why a request gets an HTTP answer from the server itself."""

from __future__ import annotations

from collections.abc import Mapping

from ..request import Response


class Refusal(Exception):
    """The request gets ``response``; ``reason`` is one line for the log."""

    def __init__(self, status: int, text: str, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.response = Response(status, text + "\n", headers or {})
        self.reason = reason


def body_refusal() -> Refusal:
    """For a request with a body that nothing reads."""
    return Refusal(413, "A request with a body is not accepted here.", "request with a body")
