"""Tasks that go on while a block is cancelled, for what its end has to tell Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVarTuple

import trio

from ..concurrency.background import background

Arguments = TypeVarTuple("Arguments")


class Carriers:
    """Starts tasks that nothing but the end of the block cancels; see ``open_carriers``."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._scopes: set[trio.CancelScope] = set()
        self._are_shielded = True

    def start_soon(
        self,
        function: Callable[[*Arguments], Awaitable[object]],
        *arguments: *Arguments,
        name: str | None = None,
    ) -> None:
        scope = trio.CancelScope(shield=self._are_shielded)
        self._scopes.add(scope)

        async def carry() -> None:
            with scope:
                await function(*arguments)
            self._scopes.remove(scope)

        self._nursery.start_soon(carry, name=name or function)

    def unshield(self) -> None:
        """Cancelling the block cancels its tasks from now on."""
        self._are_shielded = False
        for scope in self._scopes:
            scope.shield = False


@asynccontextmanager
async def open_carriers() -> AsyncGenerator[Carriers]:
    """The tasks end with the block; one that fails cancels the block, and the others go on until it ends."""
    async with background() as nursery:
        carriers = Carriers(nursery)
        try:
            yield carriers
        finally:
            carriers.unshield()
