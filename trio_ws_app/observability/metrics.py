"""``GET /metrics`` for Prometheus, from the server's own counts, which are kept once and read at a scrape.

Every series has the label ``worker``, the number of the process: a worker that starts anew starts its own
series anew, so that ``sum(rate(...))`` over the workers stays right. Needs the extra ``metrics``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ..request import Request, Response
from ..wire.histogram import Distribution
from .inspection.snapshot import Snapshot

PATH = "/metrics"
_PREFIX = "trio_ws_app_"


def metrics_hook(
    snapshots: Callable[[], Awaitable[Sequence[Snapshot]]],
) -> Callable[[Request], Awaitable[Response] | None]:
    """A ``process_request`` hook that answers ``/metrics`` with what ``snapshots`` returns, one a worker."""

    async def answer(request: Request) -> Response:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Snapshots(await snapshots()))
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(200, encode(registry), {"Content-Type": content_type})

    def answer_metrics(request: Request) -> Awaitable[Response] | None:
        return answer(request) if request.path == PATH and request.method in ("GET", "HEAD") else None

    return answer_metrics


class _Snapshots(Collector):
    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        yield from _gauges(self._snapshots)
        yield from _counters(self._snapshots)
        yield from _histograms(self._snapshots)


def _gauges(snapshots: Iterable[Snapshot]) -> Iterator[Metric]:
    connections = _gauge("connections", "Open connections.")
    queue = _gauge("queue_bytes", "Bytes that wait for slow peers.")
    waiting = _gauge("waiting_bytes", "Bytes that wait, for slow peers and for handlers.")
    draining = _gauge("draining", "1 while the server drains, else 0.")
    requests = _gauge("http_requests", "HTTP requests that an application answers now.")
    for snapshot in snapshots:
        connections.add_metric([snapshot.worker], snapshot.statistics.connections)
        queue.add_metric([snapshot.worker], snapshot.statistics.queued)
        waiting.add_metric([snapshot.worker], snapshot.statistics.waiting)
        draining.add_metric([snapshot.worker], snapshot.draining)
        requests.add_metric([snapshot.worker], snapshot.statistics.requests)
    return iter((connections, queue, waiting, draining, requests))


def _counters(snapshots: Iterable[Snapshot]) -> Iterator[Metric]:
    handshakes = _counter("handshakes", "Opening handshakes by outcome.", "outcome")
    messages = _counter("messages", "Messages of connections.", "direction")
    traffic = _counter("bytes", "Bytes on the wire, frame headers included.", "direction")
    drops = _counter("dropped_messages", "Messages not sent to slow peers, by overflow policy.", "policy")
    closes = _counter("closed_connections", "Connections that ended, by close code.", "code")
    relieved = _counter("relieved_connections", "Connections that ended since max_memory was passed.")
    failures = _counter("failed_handlers", "Handlers, and applications of HTTP requests, that failed.")
    answers = _counter("http_answers", "Answers of the application of HTTP, by status.", "status")
    aborted = _counter("http_aborted", "HTTP requests whose client did not get the whole answer.")
    for snapshot in snapshots:
        worker, counts = snapshot.worker, snapshot.statistics
        outcomes = {"accepted": counts.accepted, **counts.refused}
        _add(handshakes, worker, outcomes)
        _add(messages, worker, {"in": counts.messages_in, "out": counts.messages_out})
        _add(traffic, worker, {"in": counts.bytes_in, "out": counts.bytes_out})
        _add(drops, worker, counts.drops)
        _add(closes, worker, {str(code): count for code, count in counts.closed.items()})
        failures.add_metric([worker], counts.failed)
        relieved.add_metric([worker], counts.relieved)
        _add(answers, worker, {str(status): count for status, count in counts.answered.items()})
        aborted.add_metric([worker], counts.aborted)
    return iter((handshakes, messages, traffic, drops, closes, failures, answers, aborted, relieved))


def _histograms(snapshots: Iterable[Snapshot]) -> Iterator[Metric]:
    ping = _histogram("ping_latency_seconds", "Round trips of pings.")
    cancel = _histogram("cancel_latency_seconds", "From a peer's end to the end of its handler's clean-up.")
    lag = _histogram("loop_lag_seconds", "How late Trio's loop is, measured once a second.")
    for snapshot in snapshots:
        _add_distribution(ping, snapshot.worker, snapshot.statistics.ping_latency)
        _add_distribution(cancel, snapshot.worker, snapshot.statistics.cancel_latency)
        if snapshot.loop_lag is not None:
            _add_distribution(lag, snapshot.worker, snapshot.loop_lag)
    return iter((ping, cancel, lag))


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, text, labels=["worker"])


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(_PREFIX + name, text, labels=["worker", *labels])


def _histogram(name: str, text: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(_PREFIX + name, text, labels=["worker"])


def _add(family: CounterMetricFamily, worker: str, counts: Mapping[str, int]) -> None:
    for label, count in counts.items():
        family.add_metric([worker, label], count)


def _add_distribution(family: HistogramMetricFamily, worker: str, values: Distribution) -> None:
    buckets, below = [], 0
    for bound, count in zip((*values.bounds, float("inf")), values.counts, strict=True):
        below += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), float(below)))
    family.add_metric([worker], buckets, values.total)
