"""Who takes part: the server script of each, and what it can do."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import attrs
from rich.console import Console

from .options import choose


@attrs.frozen
class Contender:
    """One server: ``script`` is a module in ``benchmarks.servers``, started with ``arguments``.

    ``packages`` are the distributions whose versions are part of the result; one that is missing leaves the
    contender out. ``pure`` runs trio_ws_app without its compiled modules.
    """

    name: str
    script: str
    packages: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    pure: bool = False
    tls: bool = True
    compression: bool = True

    @property
    def ours(self) -> bool:
        """Whether this is trio_ws_app."""
        return self.script.endswith("ours")

    def missing(self) -> str | None:
        """The package that is not installed, or None."""
        return next((package for package in self.packages if installed(package) is None), None)


def installed(package: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


CONTENDERS = (
    Contender("ours", "ours", ("trio",)),
    Contender("ours-sync", "ours", ("trio",), ("--synchronous",)),
    Contender("ours-pure", "ours", ("trio",), pure=True),
    Contender("ours-sync-pure", "ours", ("trio",), ("--synchronous",), pure=True),
    Contender("picows", "picows_uvloop", ("picows", "uvloop"), compression=False),
    Contender("aiohttp-uvloop", "aiohttp_web", ("aiohttp", "uvloop"), ("--uvloop",)),
    Contender("aiohttp", "aiohttp_web", ("aiohttp",)),
    Contender("websockets-uvloop", "websockets_asyncio", ("websockets", "uvloop"), ("--uvloop",)),
    Contender("websockets-asyncio", "websockets_asyncio", ("websockets",)),
    Contender("websockets-trio", "websockets_trio", ("websockets", "trio")),
    Contender("trio-websocket", "trio_websocket_server", ("trio-websocket",), compression=False),
)

# What a broadcast costs without any WebSocket library; it can do nothing else.
BARE_LOOP = Contender("bare-loop", "bare_loop", ())

PEERS = tuple(contender.name for contender in CONTENDERS if not contender.ours)


def ready(only: Sequence[str], console: Console, known: Sequence[Contender] = CONTENDERS) -> list[Contender]:
    """Those of the ``known`` contenders that are wanted and installed; says who is left out.

    Raises:
        click.BadParameter: ``only`` has a name that is not known.
    """
    names = choose(only, [contender.name for contender in known], "contender")
    present = []
    for contender in known:
        if contender.name not in names:
            continue
        package = contender.missing()
        if package is None:
            present.append(contender)
        else:
            console.print(f"{contender.name} is left out: {package} is not installed")
    return present
