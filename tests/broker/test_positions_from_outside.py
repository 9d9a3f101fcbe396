"""A position that a client sends is text from outside."""

from __future__ import annotations

import logging

import pytest

import trio_ws_app as ws
from trio_ws_app.testing import ServerFixture


@pytest.mark.parametrize("text", ["", "yesterday", "a-0-b", "a-1-b-", "a" * 33 + "-1-b", "4f0c9a-1-B2E8"])
async def test_a_wrong_position_is_no_failure(
    text: str, ws_server: ServerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that lets the error out closes with 1008; the log has a line, and no traceback."""

    async def handler(connection: ws.Connection) -> None:
        ws.Position.parse(connection.request.query["since"])

    client = await (await ws_server(handler)).connect(f"/?since={text}")
    await client.wait_ended()
    assert client.close_reason is not None
    assert client.close_reason.code == ws.CloseCode.POLICY_VIOLATION
    assert [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info] == []
