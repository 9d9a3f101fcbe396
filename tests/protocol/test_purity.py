"""The protocol package stays free of I/O.

It may import ``trio_ws_app.primitives``, which has system calls beside the functions that the codec uses.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import trio_ws_app.protocol

MODULES = sorted(Path(trio_ws_app.protocol.__file__).parent.glob("*.py"))
FORBIDDEN = {"asyncio", "select", "selectors", "socket", "ssl", "time", "trio", "trio_websocket"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_no_io_in_the_protocol(module: Path) -> None:
    """No module there imports trio, sockets or a clock, and none has a coroutine."""
    for node in ast.walk(ast.parse(module.read_text())):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
        imported = []
        if isinstance(node, ast.Import):
            imported = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            imported = [node.module or ""]
        assert not {name.partition(".")[0] for name in imported} & FORBIDDEN
