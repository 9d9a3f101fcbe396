"""Inspection of a running server over HTTP: on a socket of its own, or with a token."""

from __future__ import annotations

import hmac
from collections.abc import Callable

import trio

from ...request import Request, Response
from ...server.server import Server
from ...wire.histogram import Histogram
from .rows import SORTS
from .snapshot import BrokerState, Query, Snapshot, take_snapshot, to_json

PATH = "/inspect"
_LAG_INTERVAL = 1.0

_UNAUTHORIZED = Response(401, "a token is needed\n", {"WWW-Authenticate": "Bearer"})
_STARTING = Response(503, "the server is starting\n", {"Retry-After": "1"})


class Inspector:
    """Answers ``GET /inspect`` about the server that it watches.

    ``worker`` names this process among others. Until ``watch`` is called the answer is 503.
    """

    def __init__(self, worker: str = "1") -> None:
        self.worker = worker
        self.server: Server | None = None
        self.lag: Histogram | None = None
        self._broker: Callable[[], BrokerState | None] = lambda: None

    def watch(self, server: Server, broker: Callable[[], BrokerState | None] = lambda: None) -> None:
        """From now on the answers are about ``server``, and about what ``broker()`` says."""
        self.server = server
        self._broker = broker

    def snapshot(self, query: Query) -> Snapshot | None:
        """What the server looks like now, or None before there is one."""
        if self.server is None:
            return None
        lag = None if self.lag is None else self.lag.distribution()
        return take_snapshot(self.server, self.worker, query, lag, self._broker())

    async def measure_lag(self) -> None:
        """Measure once a second how late Trio's loop is, until cancelled."""
        self.lag = Histogram()
        while True:
            due = trio.current_time() + _LAG_INTERVAL
            await trio.sleep_until(due)
            self.lag.observe(trio.current_time() - due)

    def hook(self, token: str | None) -> Callable[[Request], Response | None]:
        """A ``process_request`` hook; a token has to be sent as ``Authorization: Bearer TOKEN``."""
        needed = f"Bearer {token}".encode()

        def answer(request: Request) -> Response | None:
            if request.path != PATH or request.method != "GET":
                return None
            given = request.headers.get("authorization", "").encode()
            if token is not None and not hmac.compare_digest(given, needed):
                return _UNAUTHORIZED
            return self._answer(request)

        return answer

    def _answer(self, request: Request) -> Response:
        try:
            snapshot = self.snapshot(parse_query(request))
        except ValueError as problem:
            return Response(400, f"{problem}\n")
        if snapshot is None:
            return _STARTING
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
        return Response(200, to_json(snapshot), headers)


def parse_query(request: Request) -> Query:
    """What the query asks for. Raises ValueError, with what would be right."""
    fields = request.query
    sort = fields.get("sort", Query().sort)
    if sort not in SORTS:
        raise ValueError(f"sort is one of {', '.join(SORTS)}, not {sort!r}")
    limit = fields.get("limit", "")
    if limit and not limit.isdecimal():
        raise ValueError(f"limit is a number, not {limit!r}")
    return Query(
        sort=sort,
        filter=fields.get("filter", ""),
        limit=int(limit) if limit else None,
        tasks=fields.get("tasks", "0") == "1",
    )
