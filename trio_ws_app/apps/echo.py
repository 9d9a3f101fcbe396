"""Echo, the consumer pattern: every message goes back to its sender."""

import trio_ws_app as ws


async def echo(connection: ws.Connection) -> None:
    """Send back what comes, text as text and bytes as bytes."""
    async for message in connection:
        await connection.send(message)
