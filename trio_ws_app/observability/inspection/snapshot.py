"""What a server looks like at one instant, as values that travel as JSON."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Mapping
from typing import Any

import attrs
import trio

from ...protocol.closing import State
from ...registry.opening import members_of_run
from ...server.masking import masked
from ...server.server import Server
from ...server.statistics import Statistics
from ...server.tasks import Place, TaskNode, task_tree
from ...wire.connection import WireConnection
from ...wire.histogram import Distribution
from .rows import SORTS, ConnectionRow

MAX_INFO = 100  # characters
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
    now = trio.current_time()
    rows = sorted((_row(connection, now) for connection in server.connections), key=SORTS[query.sort])
    if query.filter:
        matching = [row for row in _with_infos(rows) if query.filter in _searched(row)]
        shown = matching[: query.limit]
    else:
        matching, shown = rows, _with_infos(rows[: query.limit])
    hidden = {row.id for row in rows} - {row.id for row in shown}
    root = trio.lowlevel.current_root_task()
    return Snapshot(
        worker=worker,
        pid=os.getpid(),
        time=now,
        draining=server.draining,
        statistics=server.statistics(),
        loop_lag=loop_lag,
        connections=shown,
        tasks=task_tree(root, hidden) if query.tasks and root is not None else None,
        matching=len(matching),
        broker=broker,
    )


def _searched(row: ConnectionRow) -> str:
    return f"{row.id} {row.remote} {row.path} {row.info}"


def _with_infos(rows: list[ConnectionRow]) -> list[ConnectionRow]:
    """The rows with what the registries remember of their connections."""
    infos: dict[str, list[str]] = {row.id: [] for row in rows}
    for member in members_of_run() if rows else ():
        if member.info is not None and member.connection.id in infos:
            infos[member.connection.id].append(_text_of(member.info))
    return [attrs.evolve(row, info=", ".join(infos[row.id])) for row in rows]


def _text_of(info: object) -> str:
    return info[:MAX_INFO] if isinstance(info, str) else _SHORT.repr(info)[:MAX_INFO]


def _row(connection: WireConnection, now: float) -> ConnectionRow:
    return ConnectionRow(
        id=connection.id,
        remote=connection.remote,
        path=masked(connection.request.target),
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
    """The snapshot again. Raises ValueError, KeyError, TypeError or the like for what is none."""
    data = json.loads(text)
    statistics = dict(data["statistics"])
    for name in ("ping_latency", "cancel_latency"):
        statistics[name] = _distribution(statistics[name])
    for name in ("closed", "answered"):
        statistics[name] = {int(code): count for code, count in statistics[name].items()}
    rows = [ConnectionRow(**row) for row in data["connections"]]
    tasks, lag, broker = data["tasks"], data["loop_lag"], data["broker"]
    fields = data | {
        "statistics": Statistics(**statistics),
        "loop_lag": None if lag is None else _distribution(lag),
        "connections": rows,
        "tasks": None if tasks is None else _node(tasks),
        "broker": None if broker is None else BrokerState(**broker),
    }
    return Snapshot(**fields)


def _distribution(data: Mapping[str, Any]) -> Distribution:
    return Distribution(tuple(data["bounds"]), tuple(data["counts"]), data["total"])


def _node(data: Mapping[str, Any]) -> TaskNode:
    waits = data["waits"]
    children = [_node(child) for child in data["children"]]
    return TaskNode(
        data["name"], None if waits is None else Place(**waits), children, data["doing"], data["internal"]
    )
