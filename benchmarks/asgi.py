"""``python -m benchmarks asgi``: WebSocket messages that an ASGI application sends back."""

from __future__ import annotations

from . import echo
from .benchmark import Benchmark
from .columns import Comparison
from .contenders import taking_part
from .figures import Target

ROWS = {name: echo.ROWS[name] for name in ("64B-100x16", "64B-100x1", "16KiB-50x4")}

TARGETS = (
    Target("64B-100x16", "rate", "ours-asgi", 2.0, ["hypercorn-trio"]),
    Target("64B-100x1", "rate", "ours-asgi", 2.0, ["hypercorn-trio"]),
    Target("64B-100x16", "rate", "ours-asgi", 1.0, ["uvicorn"]),
    Target("64B-100x1", "rate", "ours-asgi", 1.0, ["uvicorn"]),
)

command = Benchmark(
    "asgi",
    "An ASGI application's WebSocket echo: rates and latencies.",
    ROWS,
    taking_part("asgi"),
    echo.measure,
    echo.COLUMNS,
    Comparison("rate", ["hypercorn-trio", "uvicorn"]),
    TARGETS,
).command()
