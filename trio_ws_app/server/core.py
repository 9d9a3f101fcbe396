"""What the parts of one running server share."""

from __future__ import annotations

import attrs
import trio
from trio.lowlevel import ParkingLot

from ..wire.engine import Engine
from .draining import Stop
from .limits import Places
from .options import Options
from .statistics import Counters


@attrs.frozen(eq=False)
class Core:
    """``nursery`` runs what serves clients: the server's end cancels it, after the grace period.

    What waits in ``until_none`` is woken when there are no connections, requests or pending clients any more.
    """

    engine: Engine
    nursery: trio.Nursery
    options: Options
    stop: Stop
    places: Places
    counters: Counters = attrs.field(factory=Counters)
    until_none: ParkingLot = attrs.field(factory=ParkingLot)
