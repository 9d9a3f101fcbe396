"""What Prometheus is told is what has happened."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.observability.inspection.snapshot import Query, Snapshot, from_json, take_snapshot, to_json
from trio_ws_app.observability.metrics import metrics_hook
from trio_ws_app.testing import serve_in_memory
from trio_ws_app.wire.histogram import Histogram

pytestmark = pytest.mark.usefixtures("autojump_clock")

Samples = dict[tuple[str, ...], float]


async def handler(connection: ws.Connection) -> None:
    """Echo; "fail" fails; clean-up takes a fifth of a second."""
    try:
        async for message in connection:
            if message == "fail":
                raise RuntimeError("as asked")
            await connection.send(message)
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(0.2)


async def scrape(snapshots: list[Snapshot]) -> Samples:
    """The samples by name and label values."""

    async def source() -> list[Snapshot]:
        return snapshots

    asked = metrics_hook(source)(ws.Request("GET", "/metrics"))
    assert asked is not None
    answer = await asked
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.body.decode())
    return {
        (
            sample.name.removeprefix("trio_ws_app_"),
            *(value for _, value in sorted(sample.labels.items())),
        ): sample.value
        for family in families
        for sample in family.samples
    }


async def measured(server: ws.Server) -> Samples:
    """The samples of one server."""
    return await scrape([take_snapshot(server, "1", Query(limit=0), None)])


async def test_connections_messages_and_closes_are_counted() -> None:
    """Open connections, messages, handshakes by outcome, closes by code, failed handlers."""
    with trio.fail_after(60):
        async with serve_in_memory(handler, settings=ws.Settings(max_connections=3)) as memory:
            one, two, three = [await memory.connect() for _ in range(3)]
            with pytest.raises(ws.HandshakeRefused):
                await memory.connect()
            await one.send("hello")
            assert await one.receive() == "hello"
            await two.send("fail")
            await two.wait_ended()
            await three.aclose(1001)
            await trio.sleep(1)
            samples = await measured(memory.server)
    assert samples["connections", "1"] == 1
    assert samples["handshakes_total", "accepted", "1"] == 3
    assert samples["handshakes_total", "HTTP 503", "1"] == 1
    assert samples["messages_total", "in", "1"] == 2
    assert samples["messages_total", "out", "1"] == 1
    assert samples["bytes_total", "in", "1"] >= len("hello") + len("fail")
    assert samples["closed_connections_total", "1011", "1"] == 1
    assert samples["closed_connections_total", "1001", "1"] == 1
    assert samples["failed_handlers_total", "1"] == 1
    assert samples["queue_bytes", "1"] == 0


async def test_http_requests_are_counted() -> None:
    """Those that go on, answers by status, and clients that did not wait; they travel between workers."""

    async def http(scope: Any, _receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/":
            await send({"type": "http.response.start", "status": 201})
            await send({"type": "http.response.body"})
        else:
            await trio.sleep_forever()

    with trio.fail_after(60):
        async with serve_in_memory(ws.App(handler, http=http)) as memory:
            streams = [await memory.connect_raw() for _ in range(3)]
            for stream, path in zip(streams, ("/", "/wait", "/leave"), strict=True):
                await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            await wait_all_tasks_blocked()
            await streams[2].aclose()
            await wait_all_tasks_blocked()
            snapshot = take_snapshot(memory.server, "1", Query(limit=0), None)
            streams[1].abort()
    samples = await scrape([from_json(to_json(snapshot))])
    assert samples["http_requests", "1"] == 1
    assert samples["http_answers_total", "201", "1"] == 1
    assert samples["http_aborted_total", "1"] == 1


async def test_cancel_latency_is_from_the_peers_end_to_the_end_of_the_clean_up() -> None:
    """A handler that takes a fifth of a second to clean up is counted as such."""
    with trio.fail_after(60):
        async with serve_in_memory(handler) as memory:
            peer = await memory.connect()
            await peer.aclose()
            await trio.sleep(1)
            samples = await measured(memory.server)
    assert samples["cancel_latency_seconds_count", "1"] == 1
    assert samples["cancel_latency_seconds_sum", "1"] == pytest.approx(0.2, abs=0.01)
    assert samples["cancel_latency_seconds_bucket", "0.1", "1"] == 0
    assert samples["cancel_latency_seconds_bucket", "0.25", "1"] == 1


async def test_ping_latency_is_the_round_trip() -> None:
    """A silent peer is pinged, and how long its answer took is counted."""
    with trio.fail_after(120):
        async with serve_in_memory(handler, settings=ws.Settings(ping_interval=10)) as memory:
            await memory.connect()
            await trio.sleep(35)
            samples = await measured(memory.server)
    assert samples["ping_latency_seconds_count", "1"] == 3


@pytest.mark.parametrize("policy", ["disconnect", "drop-newest", "drop-oldest", "latest"])
async def test_drops_are_counted_by_policy(policy: str) -> None:
    """A peer that does not read loses messages; the metric says by which policy."""
    async with ws.open_registry(overflow=policy) as room:

        async def listen(connection: ws.Connection) -> None:
            with room.register(connection):
                await connection.wait_closed()

        settings = ws.Settings(max_queue_bytes=10_000, send_timeout=None)
        async with serve_in_memory(listen, settings=settings) as memory:
            peer = await memory.connect(capacity=100)
            await wait_all_tasks_blocked()
            peer.stream.stall()
            for _ in range(100):
                room.broadcast("x" * 1000, key="k")
            samples = await measured(memory.server)
            assert samples["dropped_messages_total", policy, "1"] > 0


async def test_every_worker_has_its_own_series() -> None:
    """The scrape of one process shows all of them, apart."""
    async with serve_in_memory(handler) as memory:
        await memory.connect()
        first = take_snapshot(memory.server, "1", Query(limit=0), None)
        samples = await scrape([first, attrs.evolve(first, worker="2")])
    assert samples["connections", "1"] == samples["connections", "2"] == 1


async def test_other_paths_are_not_answered() -> None:
    """The hook leaves the rest to others."""

    async def source() -> list[Snapshot]:
        raise AssertionError("not asked")

    assert metrics_hook(source)(ws.Request("GET", "/")) is None
    assert metrics_hook(source)(ws.Request("POST", "/metrics")) is None


async def test_a_value_on_a_bound_belongs_to_its_bucket() -> None:
    """Buckets are "at most", as Prometheus has them."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    distribution = histogram.distribution()
    assert distribution.counts == (2, 2, 1)
    assert distribution.total == 7.5
