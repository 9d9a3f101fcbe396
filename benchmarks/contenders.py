"""Who takes part: the server script of each, and what it can do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import attrs
from rich.console import Console

from . import compiler
from .options import Options, choose

SERVERS = Path(__file__).parent / "servers"
WITHOUT_BUN = "there is no bun on PATH: npm's @oven/bun-linux-x64 has it as bin/bun, and --bun PATH names it"


@attrs.frozen
class Contender:
    """One server: ``script`` in ``servers/`` is started with ``arguments``.

    A script in Python is run as a module, one in C is compiled, and one in JavaScript is run by ``bun``.
    ``packages`` are the distributions whose versions are part of the result; one that is missing leaves the
    contender out. ``works`` are the benchmarks that it takes part in. A ``floor`` is no WebSocket server: it
    shows what the system calls alone cost, and nothing is judged by it.
    """

    name: str
    script: str
    packages: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    works: tuple[str, ...] = ("echo", "handshake", "fanout", "idle")
    tls: bool = True
    compression: bool = True
    floor: bool = False
    bun: Path | None = None

    @property
    def ours(self) -> bool:
        """Whether this is trio_ws_app."""
        return self.name.startswith("ours")

    def missing(self) -> str | None:
        """Why it cannot take part, or None."""
        if self.script.endswith(".js") and self._bun() is None:
            return WITHOUT_BUN
        absent = (f"{package} is not installed" for package in self.packages if installed(package) is None)
        return next(absent, None)

    def command(self) -> list[str]:
        """How its server is started."""
        path = SERVERS / self.script
        if path.suffix == ".c":
            return [str(compiler.build(path.stem, [path])), *self.arguments]
        if path.suffix == ".js":
            return [str(self._bun()), str(path), *self.arguments]
        return [sys.executable, "-m", f"benchmarks.servers.{path.stem}", *self.arguments]

    def versions(self) -> Mapping[str, str | None]:
        """The version of everything that it consists of."""
        found = {package: installed(package) for package in self.packages}
        if self.script.endswith(".js"):
            said = subprocess.run([str(self._bun()), "--version"], capture_output=True, text=True)
            found["bun"] = said.stdout.strip()
        return found

    def _bun(self) -> Path | str | None:
        return self.bun or shutil.which("bun")


def installed(package: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


# Servers of one ASGI application, which answers HTTP and echoes WebSocket messages.
_ASGI = ("http", "asgi")
_UVICORN = ("uvicorn", "uvloop", "httptools", "websockets")

# Where no message comes in, a plain function and a coroutine function cost the same.
CONTENDERS = (
    Contender("ours", "ours.py", ("trio",)),
    Contender("ours-sync", "ours.py", ("trio",), ("--synchronous",), ("echo", "idle")),
    Contender("ours-pure", "ours.py", ("trio",), ("--pure",)),
    Contender("ours-sync-pure", "ours.py", ("trio",), ("--synchronous", "--pure"), ("echo", "idle")),
    Contender("bun", "bun.js"),
    Contender("picows", "picows_uvloop.py", ("picows", "uvloop"), compression=False),
    Contender("aiohttp-uvloop", "aiohttp_web.py", ("aiohttp", "uvloop"), ("--uvloop",)),
    Contender("aiohttp", "aiohttp_web.py", ("aiohttp",)),
    Contender("websockets-uvloop", "websockets_asyncio.py", ("websockets", "uvloop"), ("--uvloop",)),
    Contender("websockets-asyncio", "websockets_asyncio.py", ("websockets",)),
    Contender("websockets-trio", "websockets_trio.py", ("websockets", "trio")),
    Contender("trio-websocket", "trio_websocket_server.py", ("trio-websocket",), compression=False),
    Contender("ours-asgi", "asgi_ours.py", ("trio",), works=_ASGI),
    Contender("hypercorn-trio", "asgi_hypercorn.py", ("hypercorn", "trio"), works=_ASGI),
    Contender("uvicorn", "asgi_uvicorn.py", _UVICORN, works=_ASGI),
    Contender("limit", "limit.c", works=("echo", "handshake"), tls=False, compression=False, floor=True),
    Contender("bare-loop", "bare_loop.py", works=("fanout",), tls=False, compression=False, floor=True),
)

PEERS = tuple(one.name for one in CONTENDERS if "echo" in one.works and not one.ours and not one.floor)


def taking_part(work: str) -> list[Contender]:
    """The contenders of a benchmark."""
    return [contender for contender in CONTENDERS if work in contender.works]


def ready(options: Options, console: Console, known: Sequence[Contender]) -> list[Contender]:
    """Those of the ``known`` contenders that are wanted and there; says who is left out, and why.

    Raises:
        click.BadParameter: ``options.only`` has a name that is not known.
    """
    names = choose(options.only, [contender.name for contender in known], "contender")
    wanted = [attrs.evolve(one, bun=options.bun) for one in known if one.name in names]
    reasons = {contender: contender.missing() for contender in wanted}
    for contender, reason in reasons.items():
        if reason is not None:
            console.print(f"{contender.name} is left out: {reason}")
    return [contender for contender, reason in reasons.items() if reason is None]
