"""A connection as one row, and what rows can be sorted by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs


@attrs.frozen
class ConnectionRow:
    """One connection: counts since it was opened, ``age`` and ``latency`` in seconds, ``queued`` in bytes.

    ``inbox`` messages wait for the handler; ``blocked`` says that the peer takes no more bytes now. ``info``
    is what the application's registries remember of it, as text.
    """

    id: str
    remote: str
    path: str
    state: str
    age: float
    silent: float
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    inbox: int
    queued: int
    dropped: int
    blocked: bool
    latency: float | None
    info: str = ""


SORTS: Mapping[str, Callable[[ConnectionRow], Any]] = {
    "queued": lambda row: (-row.queued, -row.inbox, -row.bytes_out - row.bytes_in),
    "age": lambda row: -row.age,
    "in": lambda row: -row.messages_in,
    "out": lambda row: -row.messages_out,
    "bytes": lambda row: -row.bytes_out - row.bytes_in,
    "dropped": lambda row: -row.dropped,
    "latency": lambda row: -(row.latency or 0.0),
    "id": lambda row: row.id,
}
