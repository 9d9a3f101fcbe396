"""Run the Autobahn test suite against ``trio-ws-app serve echo`` and compare with ``expected.json``.

    python -m tests.autobahn [--whole] [--install FOLDER] [--reports FOLDER]

Without ``--whole`` it leaves out the larger two thirds of the compression cases: 373 cases instead of 517.
The exit status is 0 when no case is worse than expected, 1 when one is, and 2 when the suite did not run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SLOW = ["12.*.8", "12.*.9", "12.*.1*", "13.*.8", "13.*.9", "13.*.1*"]
SERVER = ["serve", "echo", "--port", "0", "--compression", "--max-message-size", "32MiB"]
SERVER += ["--max-fragments", "131072", "--log-level", "warning"]

Verdict = Mapping[str, str]


@contextmanager
def echo_server() -> Iterator[str]:
    """The built-in echo application in a process of its own; gives its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trio_ws_app", *SERVER], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        if not ready.startswith("listening on "):
            raise SystemExit(2)  # the server has said why
        yield ready.removeprefix("listening on ").strip()
    finally:
        process.terminate()
        status = process.wait(timeout=60)
    if status != 0:
        raise SystemExit(f"the echo server ended with status {status}")


def run_suite(wstest: Path, url: str, reports: Path, exclude: list[str]) -> dict[str, Verdict]:
    """What the suite found, by case."""
    specification = {
        "outdir": str(reports),
        "servers": [{"agent": "trio_ws_app", "url": url}],
        "cases": ["*"],
        "exclude-cases": exclude,
        "exclude-agent-cases": {},
    }
    (reports / "fuzzingclient.json").write_text(json.dumps(specification))
    command = [wstest, "--mode", "fuzzingclient", "--spec", str(reports / "fuzzingclient.json")]
    with (reports / "wstest.log").open("w") as log:
        subprocess.run(command, cwd=reports, stdout=log, stderr=subprocess.STDOUT, check=True)
    index = json.loads((reports / "index.json").read_text())
    return dict(index["trio_ws_app"])


def problems(results: Mapping[str, Verdict], expected: Mapping[str, object]) -> Iterator[str]:
    """Every way in which the results are worse than expected."""
    allowed: dict[str, set[str]] = {
        "OK": set(results),
        "INFORMATIONAL": set(expected["informational"]),  # type: ignore[arg-type]
        "NON-STRICT": set(expected["non-strict"]),  # type: ignore[arg-type]
    }
    for case, verdict in results.items():
        for aspect in ("behavior", "behaviorClose"):
            found = verdict[aspect]
            if case not in allowed.get(found, ()):
                yield f"case {case}: {aspect} is {found}, close code {verdict.get('remoteCloseCode')}"
    loose = sum(verdict["behavior"] == "NON-STRICT" for verdict in results.values())
    if loose > int(str(expected["most-non-strict"])):
        yield f"{loose} cases are non-strict, at most {expected['most-non-strict']} may be"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn", description=__doc__)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    parser.add_argument("--whole", action="store_true", help="run all 517 cases")
    parser.add_argument("--install", type=Path, default=cache / "trio-ws-app-autobahn", metavar="FOLDER")
    parser.add_argument("--reports", type=Path, metavar="FOLDER", help="keep the suite's reports there")
    options = parser.parse_args()
    subprocess.run([HERE / "install", options.install], check=True)
    expected = json.loads((HERE / "expected.json").read_text())
    profile = "whole" if options.whole else "quick"
    with tempfile.TemporaryDirectory() as temporary, echo_server() as url:
        reports = (options.reports or Path(temporary)).absolute()
        reports.mkdir(parents=True, exist_ok=True)
        results = run_suite(options.install / "wstest", url, reports, [] if options.whole else SLOW)
    if len(results) != expected["cases"][profile]:
        print(f"only {len(results)} of {expected['cases'][profile]} cases ran")
        return 2
    counts = Counter(verdict["behavior"] for verdict in results.values())
    print(f"{len(results)} cases:", ", ".join(f"{count} {name}" for name, count in counts.most_common()))
    found = list(problems(results, expected))
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
