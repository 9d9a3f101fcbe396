"""``GET /metrics`` for Prometheus, from the server's own counts, which are kept once and read at a scrape.

Every series has the label ``worker``, the number of the process: a worker that starts anew starts its own
series anew, so that ``sum(rate(...))`` over the workers stays right. Needs the extra ``metrics``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from operator import attrgetter

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ..request import Request, Response
from ..server.statistics import Statistics
from ..wire.histogram import Distribution
from .inspection.snapshot import Snapshot

PATH = "/metrics"
_PREFIX = "trio_ws_app_"

# Each with its name, what it is of a snapshot, and its description.
_GAUGES = (
    ("connections", "statistics.connections", "Open connections."),
    ("queue_bytes", "statistics.queued", "Bytes that wait for slow peers."),
    ("waiting_bytes", "statistics.waiting", "Bytes that wait, for slow peers and for handlers."),
    ("draining", "draining", "1 while the server drains, else 0."),
    ("http_requests", "statistics.requests", "HTTP requests that an application answers now."),
)
_COUNTERS = (
    ("failed_handlers", "statistics.failed", "Handlers, and applications of HTTP requests, that failed."),
    ("http_aborted", "statistics.aborted", "HTTP requests whose client did not get the whole answer."),
    ("relieved_connections", "statistics.relieved", "Connections that ended since max_memory was passed."),
)
_HISTOGRAMS = (
    ("ping_latency_seconds", "statistics.ping_latency", "Round trips of pings."),
    (
        "cancel_latency_seconds",
        "statistics.cancel_latency",
        "From a peer's end to the end of its handler's clean-up.",
    ),
    ("loop_lag_seconds", "loop_lag", "How late Trio's loop is, measured once a second."),
)
_Counts = Callable[[Statistics], Mapping[str, int] | Mapping[int, int]]
_LABELLED: Mapping[str, tuple[str, str, _Counts]] = {  # counters, with the label and the counts by its values
    "handshakes": (
        "outcome",
        "Opening handshakes by outcome.",
        lambda one: {"accepted": one.accepted, **one.refused},
    ),
    "messages": (
        "direction",
        "Messages of connections.",
        lambda one: {"in": one.messages_in, "out": one.messages_out},
    ),
    "bytes": (
        "direction",
        "Bytes on the wire, frame headers included.",
        lambda one: {"in": one.bytes_in, "out": one.bytes_out},
    ),
    "dropped_messages": (
        "policy",
        "Messages not sent to slow peers, by overflow policy.",
        attrgetter("drops"),
    ),
    "closed_connections": ("code", "Connections that ended, by close code.", attrgetter("closed")),
    "http_answers": ("status", "Answers of the application of HTTP, by status.", attrgetter("answered")),
}


def metrics_hook(
    snapshots: Callable[[], Awaitable[Sequence[Snapshot]]],
) -> Callable[[Request], Awaitable[Response] | None]:
    """A ``process_request`` hook that answers ``/metrics`` with what ``snapshots`` returns, one a worker."""

    async def answer(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(200, encode(_Snapshots(await snapshots())), {"Content-Type": content_type})

    def answer_metrics(request: Request) -> Awaitable[Response] | None:
        return answer(request) if request.path == PATH and request.method in ("GET", "HEAD") else None

    return answer_metrics


class _Snapshots(Collector):
    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        for kind, table in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
            for name, attribute, text in table:
                family = kind(_PREFIX + name, text, labels=["worker"])
                for one in self._snapshots:
                    family.add_metric([one.worker], attrgetter(attribute)(one))
                yield family
        for name, (label, text, counts) in _LABELLED.items():
            counter = CounterMetricFamily(_PREFIX + name, text, labels=["worker", label])
            for one in self._snapshots:
                for value, count in counts(one.statistics).items():
                    counter.add_metric([one.worker, str(value)], count)
            yield counter
        for name, attribute, text in _HISTOGRAMS:
            histogram = HistogramMetricFamily(_PREFIX + name, text, labels=["worker"])
            for one in self._snapshots:
                if (values := attrgetter(attribute)(one)) is not None:
                    histogram.add_metric([one.worker], _buckets(values), values.total)
            yield histogram


def _buckets(values: Distribution) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound."""
    bounds = [*map(str, values.bounds), "+Inf"]
    return list(zip(bounds, accumulate(values.counts), strict=True))
