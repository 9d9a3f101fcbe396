"""Importing and embedding change nothing in the process (G15); the command line does, and says so."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from running import environment, serving
from websockets.sync.client import connect

from trio_ws_app.cli.process import rest_collector

STATE = """
import ctypes, gc, logging, os, signal, sys, threading, warnings

class MallocInfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost"
    )]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = MallocInfo
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]

def large_blocks_are_mapped():
    # A malloc of 1 MiB is a mapping of its own, unless the threshold was raised (mallopt).
    before = libc.mallinfo2().hblks
    block = libc.malloc(1 << 20)
    mapped = libc.mallinfo2().hblks > before
    # Freeing it would raise the threshold by itself.
    return mapped

def state():
    root = logging.getLogger()
    return {
        "collector": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), len(gc.callbacks)),
        "malloc": large_blocks_are_mapped(),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "wakeup": signal.set_wakeup_fd(-1),
        "logging": (root.level, root.handlers[:], logging.lastResort, logging.raiseExceptions),
        "loggers": {
            name: (logger.level, logger.handlers[:])
            for name, logger in logging.root.manager.loggerDict.items()
            if isinstance(logger, logging.Logger) and (logger.level or logger.handlers)
        },
        "warnings": (warnings.showwarning, warnings.filters[:]),
        "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.get_asyncgen_hooks()),
        "threads": [thread.name for thread in threading.enumerate() if "Trio" not in thread.name],
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "directory": (os.getcwd(), os.umask(0o22)),
        "interval": sys.getswitchinterval(),
        "limits": sys.getrecursionlimit(),
    }

def check(before, words):
    after = state()
    changed = {name: (before[name], after[name]) for name in before if after[name] != before[name]}
    assert not changed, (words, changed)
"""

IMPORTS = """
import asyncio, trio, click  # what others do when they are imported
import h11, attrs
before = state()
import trio_ws_app
from trio_ws_app import *
import trio_ws_app.testing
import trio_ws_app.cli.serving
import trio_ws_app.cli.conversation
import trio_ws_app.apps.chat
check(before, "imported")
"""

EMBEDS = """
import trio
import trio_ws_app as ws
from trio_ws_app.testing import serve_in_memory

async def main():
    ready = trio.Event()
    inside = []

    async def handler(connection):
        inside.append(state())
        async for message in connection:
            await connection.send(message)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(ws.serve, handler, 0)
        while_serving = state()
        async with ws.connect(f"ws://127.0.0.1:{server.port}") as client:
            await client.send("x" * 100_000)
            assert len(await client.receive()) == 100_000
        async with trio.open_nursery() as clients:
            for _ in range(120):
                clients.start_soon(stay, server.port)
            while len(server.connections) < 120:
                await trio.sleep(0.01)
            nursery.start_soon(server.drain)
        check_some(before, while_serving)
        for one in inside:
            check_some(before, one)
    check_some(before, state())

async def stay(port):
    async with ws.connect(f"ws://127.0.0.1:{port}") as client:
        async for _ in client:
            pass

def check_some(before, after):
    # Trio itself has a wakeup descriptor, hooks, SIGINT and threads while it runs; sockets are open.
    for name in ("collector", "malloc", "logging", "loggers", "warnings", "interval", "limits", "directory"):
        assert after[name] == before[name], (name, before[name], after[name])
    for number in signal.valid_signals() - {signal.SIGINT}:
        assert after["signals"][number] == before["signals"][number], number

for setting in (gc.enable, lambda: gc.set_threshold(5000, 5, 5), gc.disable):
    setting()
    before = state()
    trio.run(main)
    for name in ("descriptors", "threads"):
        before.pop(name)
    after = {name: value for name, value in state().items() if name in before}
    assert after == before
"""


def run_python(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STATE + code], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_importing_changes_nothing() -> None:
    """Neither collector, malloc, signals, logging and warnings, nor threads, hooks and descriptors."""
    run_python(IMPORTS)


def test_embedding_changes_nothing() -> None:
    """While it serves, while many connections end at once, and afterwards all is as the user has set it."""
    run_python(EMBEDS)


PROBE = """
import gc, json
exec(STATE)

async def handler(connection):
    await connection.send(json.dumps([large_blocks_are_mapped(), gc.isenabled()]))
    await connection.wait_closed()
    print(gc.isenabled(), flush=True)
"""


def test_the_command_line_tunes_its_process(tmp_path: Path) -> None:
    """There large buffers are kept, and the collector rests while handlers end."""
    (tmp_path / "probe.py").write_text(f"STATE = {STATE!r}\n{PROBE}")
    with serving("probe:handler", cwd=tmp_path) as server, connect(server.url) as client:
        assert client.recv(timeout=10) == "[false, true]"
        ended = server.stop()
    assert ended.output == "False\n"


@pytest.mark.parametrize(
    ("enabled", "seen"), [(True, [False, True, True, True, False]), (False, [False] * 5)]
)
async def test_the_collector_rests_twice(
    autojump_clock: trio.testing.MockClock, enabled: bool, seen: list[bool]
) -> None:
    """After the Close, and after the grace period until the end; one that was off stays off."""
    del autojump_clock
    found = []
    if not enabled:
        gc.disable()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rest_collector, 20.0)
            for _ in range(5):
                await trio.sleep(4.5)
                found.append(gc.isenabled())
            nursery.cancel_scope.cancel()
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
    assert found == seen
