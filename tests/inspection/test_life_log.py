"""One line for each connection's life."""

from __future__ import annotations

import logging

import pytest
import trio

import trio_ws_app as ws
from trio_ws_app.testing import serve_in_memory

pytestmark = pytest.mark.usefixtures("autojump_clock")


async def echo(connection: ws.Connection) -> None:
    """Send everything back."""
    async for message in connection:
        await connection.send(message)


async def test_a_life_is_one_line_with_its_facts(caplog: pytest.LogCaptureFixture) -> None:
    """Id, address, path without secrets, duration, messages, close code and which side closed."""
    caplog.set_level(logging.INFO, "trio_ws_app.connection")
    async with serve_in_memory(echo) as memory:
        peer = await memory.connect("/room?name=ada&token=secret")
        (connection,) = memory.server.connections
        for _ in range(3):
            await peer.send("hello")
        await trio.sleep(2)
        await peer.aclose(4001, "enough")
        await trio.sleep(1)
    (record,) = [record for record in caplog.records if record.name == "trio_ws_app.connection"]
    facts = vars(record)
    assert record.getMessage() == "closed"
    assert {name: facts[name] for name in ("connection", "remote", "path", "close_code", "closed_by")} == {
        "connection": connection.id,
        "remote": "memory",
        "path": "/room?name=ada&token=***",
        "close_code": 4001,
        "closed_by": "peer",
    }
    assert (facts["messages_in"], facts["messages_out"]) == (3, 3)
    assert facts["duration"] == pytest.approx(2, abs=0.01)
    assert "secret" not in caplog.text
