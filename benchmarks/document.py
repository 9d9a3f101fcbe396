"""Everything that was measured, as JSON: with the command line, the machine and the versions."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from .contenders import Contender
from .figures import Failure, Figures, Results, Verdict


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def make(
    benchmark: str, contenders: Sequence[Contender], results: Results, judged: Sequence[Verdict]
) -> dict[str, object]:
    """Put a run together."""
    return {
        "benchmark": benchmark,
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
        "machine": machine(),
        "versions": dict(sorted(item for one in contenders for item in one.versions().items())),
        "results": [
            {
                "row": row,
                "contender": contender,
                "medians": results.medians(row, contender),
                "rounds": [_outcome(outcome) for outcome in outcomes],
            }
            for (row, contender), outcomes in results.rounds.items()
        ],
        "targets": [_verdict(verdict) for verdict in judged],
    }


def _outcome(outcome: Figures | Failure) -> Mapping[str, object]:
    return {"failed": outcome.reason} if isinstance(outcome, Failure) else outcome


def _verdict(verdict: Verdict) -> dict[str, object]:
    found = {"measured": verdict.measured, "peer": verdict.peer, "reached": verdict.reached}
    return {**attrs.asdict(verdict.target), **found}


def write(path: Path, value: Mapping[str, object]) -> None:
    """Write ``value``, indented."""
    path.write_text(json.dumps(value, indent=2) + "\n")
