"""A connection's block in a task of its own, for loops that may leave it at any point."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, suppress
from contextvars import copy_context

import trio

from ..connection import Connection


class Carrier:
    """Enters a block that gives a connection, and leaves it when it is told to.

    ``async for`` does not tell its iterator that the loop was left, so the block cannot be in the loop's
    own task: its nursery would be left open. Nor can it be in one of the caller's nurseries, which would
    then wait for a loop that nobody ends. It is a system task, which Trio cancels at the latest when
    the program is over; ``end`` waits for it.
    """

    def __init__(self, block: AbstractAsyncContextManager[Connection]) -> None:
        self._block = block
        self._scope = trio.CancelScope()
        self._opened = trio.Event()
        self._released = trio.Event()
        self._ended = trio.Event()
        self._error: Exception | None = None
        self._token = trio.lowlevel.current_trio_token()
        self.connection: Connection
        self.opened_at = 0.0

    async def start(self) -> Connection:
        """Enter the block. What it raises comes out; when cancelled, nothing of it is left."""
        trio.lowlevel.spawn_system_task(self._carry, context=copy_context())
        await self._reach(self._opened)
        return self.connection

    async def end(self) -> None:
        """Leave the block, and wait until that is done. When cancelled, the connection is dropped."""
        self._released.set()
        await self._reach(self._ended)

    def let_go(self) -> None:
        """Leave the block in the background; may be called from anywhere, the garbage collector included."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._released.set)

    async def _reach(self, event: trio.Event) -> None:
        try:
            await event.wait()
        except trio.Cancelled:
            self._scope.cancel()
            with trio.CancelScope(shield=True):
                await self._ended.wait()
            raise
        if self._error is not None:
            raise self._error

    async def _carry(self) -> None:
        try:
            with self._scope:
                async with self._block as self.connection:
                    self.opened_at = trio.current_time()
                    self._opened.set()
                    await self._released.wait()
        except Exception as error:
            self._error = error
        finally:
            self._opened.set()
            self._ended.set()
