"""What a server looks like at one instant, as values that travel as JSON."""

from __future__ import annotations

import json
import os
import reprlib
from collections import abc
from collections.abc import Set
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import attrs
import trio

from ...protocol.closing import State
from ...registry.opening import members_of_run
from ...server.masking import masked
from ...server.server import Server
from ...server.statistics import Statistics
from ...server.tasks import TaskNode, task_tree
from ...wire.connection import WireConnection
from ...wire.histogram import Distribution
from .rows import SORTS, ConnectionRow

MAX_INFO = 100  # characters
_MAX_NUMBER = 2**63
_SHORT = reprlib.Repr()  # it contains what a repr raises, too
_SHORT.maxother = _SHORT.maxstring = MAX_INFO


@attrs.frozen(kw_only=True)
class Query:
    """What a snapshot is to show: the first ``limit`` connections (None: all) by ``sort``, see ``SORTS``.

    ``filter`` is looked for in a connection's id, address, path and info. With ``tasks`` the tree of tasks
    comes along, with those of the connections that are shown.
    """

    sort: str = "queued"
    filter: str = ""
    limit: int | None = None
    tasks: bool = False


@attrs.frozen
class BrokerState:
    """What carries topics between processes: its ``name``, and its ``problem`` unless it works."""

    name: str
    problem: str | None = None


@attrs.frozen
class Snapshot:
    """One server process at one instant. ``time`` is a clock in seconds that never goes back.

    ``loop_lag`` is how late Trio's loop was, where that is measured. ``matching`` connections pass the
    query's filter, of which ``connections`` are the first.
    """

    worker: str
    pid: int
    time: float
    draining: bool
    statistics: Statistics
    loop_lag: Distribution | None
    connections: list[ConnectionRow]
    tasks: TaskNode | None
    matching: int = 0
    broker: BrokerState | None = None


def take_snapshot(
    server: Server,
    worker: str,
    query: Query,
    loop_lag: Distribution | None,
    broker: BrokerState | None = None,
) -> Snapshot:
    """What ``server`` looks like now. Call it from Trio's thread."""
    now, connections = trio.current_time(), server.connections
    shown, matching = _select(connections, query, now)
    tasks = None
    if query.tasks and (root := trio.lowlevel.current_root_task()) is not None:
        tasks = task_tree(root, {connection.id for connection in connections} - {row.id for row in shown})
    return Snapshot(
        worker=worker,
        pid=os.getpid(),
        time=now,
        draining=server.draining,
        statistics=server.statistics(),
        loop_lag=loop_lag,
        connections=shown,
        tasks=tasks,
        matching=matching,
        broker=broker,
    )


def _select(connections: Set[WireConnection], query: Query, now: float) -> tuple[list[ConnectionRow], int]:
    """The rows that the query asks for, and how many connections pass its filter."""
    if query.limit == 0 and not query.filter:  # as metrics do: rows would cost ten times as much
        return [], len(connections)
    rows = sorted((_row(connection, now) for connection in connections), key=SORTS[query.sort])
    if not query.filter:
        return _finished(rows[: query.limit]), len(rows)
    found = [row for row in _finished(rows) if query.filter in _searched(row)]
    return found[: query.limit], len(found)


def _searched(row: ConnectionRow) -> str:
    return f"{row.id} {row.remote} {row.path} {row.info}"


def _finished(rows: list[ConnectionRow]) -> list[ConnectionRow]:
    """The rows with what the registries remember of their connections, and paths without secrets."""
    infos: dict[str, list[str]] = {row.id: [] for row in rows}
    for member in members_of_run() if rows else ():
        if member.info is not None and member.connection.id in infos:
            infos[member.connection.id].append(_text_of(member.info))
    return [attrs.evolve(row, path=masked(row.path), info=", ".join(infos[row.id])) for row in rows]


def _text_of(info: object) -> str:
    return info[:MAX_INFO] if isinstance(info, str) else _SHORT.repr(info)[:MAX_INFO]


def _row(connection: WireConnection, now: float) -> ConnectionRow:
    return ConnectionRow(
        id=connection.id,
        remote=connection.remote,
        path=connection.request.target,
        state=State(connection.closing.state).name.lower(),
        age=now - connection.opened_at,
        silent=now - connection.last_seen,
        messages_in=connection.messages_in,
        messages_out=connection.messages_out,
        bytes_in=connection.bytes_in,
        bytes_out=connection.outbox.bytes_out,
        inbox=connection.inbox.count(),
        queued=connection.queued,
        dropped=connection.dropped,
        blocked=connection.outbox.blocked,
        latency=connection.latency,
    )


def to_json(snapshot: Snapshot) -> str:
    """The snapshot as an object of JSON, on one line."""
    return json.dumps(attrs.asdict(snapshot))


def from_json(text: str | bytes) -> Snapshot:
    """The snapshot again. Raises ValueError, TypeError, LookupError or the like for what is none."""
    snapshot: Snapshot = _structure(Snapshot, json.loads(text))
    return snapshot


def _structure(kind: Any, value: Any) -> Any:
    """``value`` of JSON as a value of the type ``kind``."""
    parts = get_args(kind)
    if attrs.has(kind):
        types = _types_of(kind)
        return kind(**{name: _structure(types[name], item) for name, item in value.items()})
    if isinstance(kind, UnionType):  # a type or None
        return None if value is None else _structure(parts[0], value)
    match get_origin(kind):
        case None:
            return _checked(kind, value)
        case abc.Mapping:
            return {parts[0](key): _structure(parts[1], item) for key, item in value.items()}
        case sequence:
            return sequence(_structure(parts[0], item) for item in value)


_types_of = cache(get_type_hints)


def _checked(kind: type, value: object) -> object:
    if not isinstance(value, int | float if kind is float else kind):
        raise TypeError(f"{kind.__name__} is expected, not {type(value).__name__}")
    if isinstance(value, int | float) and not -_MAX_NUMBER < value < _MAX_NUMBER:
        raise ValueError("a number is out of range, or is none")
    return value
