"""Clients of an application whose handler says first which process it runs in."""

from __future__ import annotations

import pytest
from running import PATIENCE
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

TWO = ("--workers", "2", "--broker", "none")
NAMES_ITS_PROCESS = """
import os
import time

async def names_its_process(connection):
    await connection.send(str(os.getpid()))
    async for message in connection:
        if message == "hang":
            time.sleep(1000)
"""


def process_of(client: ClientConnection) -> int:
    """The process that serves the client."""
    return int(client.recv(timeout=PATIENCE))


def code_of(client: ClientConnection) -> int | None:
    """The code that the server closes the connection with, None without a Close."""
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=PATIENCE)
    return closed.value.rcvd and closed.value.rcvd.code
