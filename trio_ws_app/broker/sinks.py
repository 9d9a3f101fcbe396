"""What follows a topic is called in the broker's own task, which serves many: its failures end here (G5)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

logger = logging.getLogger("trio_ws_app.broker")

Told = TypeVar("Told")


def tell(sinks: Iterable[Callable[[Told], object]], item: Told) -> None:
    """Call every sink with ``item``; one that fails is logged and costs the others nothing."""
    for sink in tuple(sinks):
        try:
            sink(item)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            logger.exception("what follows a topic failed to take %s", type(item).__name__)
