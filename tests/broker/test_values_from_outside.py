"""What a client sends may be no position, and no name under which it can be present."""

from __future__ import annotations

import json
import logging

import pytest
from trio.testing import wait_all_tasks_blocked

import trio_ws_app as ws
from trio_ws_app.testing import Peer, ServerFixture


@pytest.mark.parametrize("text", ["", "yesterday", "a-0-b", "a-1-b-", "a" * 33 + "-1-b", "4f0c9a-1-B2E8"])
async def test_a_wrong_position_is_no_failure(
    text: str, ws_server: ServerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that lets the error out closes with 1008; the log has a line, and no traceback."""

    async def handler(connection: ws.Connection) -> None:
        ws.Position.parse(connection.request.query["since"])

    client = await (await ws_server(handler)).connect(f"/?since={text}")
    await check_refused(client, caplog)


@pytest.mark.parametrize("name", ["x" * 20_000, '"' * 9000, "\0" * 3000, "\ud800", "ada"])
async def test_a_name_that_cannot_be_present_is_no_failure(
    name: str, ws_server: ServerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """Too long, not to be encoded, or taken: likewise, and those who are there stay."""
    async with ws.open_registry() as room:

        async def handler(connection: ws.Connection) -> None:
            async for name in ws.json_messages(connection, str):
                with room.register(connection) as member:
                    async with member.follow("t", presence={"key": name}, exclusive=True):
                        await connection.wait_closed()

        server = await ws_server(handler)
        ada, client = await server.connect(), await server.connect()
        await ada.send(json.dumps("ada"))
        await wait_all_tasks_blocked()
        await client.send(json.dumps(name))
        await check_refused(client, caplog)
        assert [one.user for one in await room.presence("t")] == ["ada"]


async def check_refused(client: Peer, caplog: pytest.LogCaptureFixture) -> None:
    await client.wait_ended()
    assert client.close_reason is not None
    assert client.close_reason.code == ws.CloseCode.POLICY_VIOLATION
    assert [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info] == []
