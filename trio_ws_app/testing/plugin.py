"""A pytest plugin for tests on virtual time, beside pytest-trio: ``-p trio_ws_app.testing.plugin``.

With it ``pytest.mark.usefixtures("autojump_clock")``, also as a module's ``pytestmark``, does what the
argument ``autojump_clock`` does; pytest-trio looks for clocks in a test's arguments only. A test that waits
for what never comes fails after an hour of virtual time, instead of watching keepalive for ever.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
from trio.testing import MockClock

VIRTUAL_SECONDS = 3600


@pytest.hookimpl(tryfirst=True)  # before pytest-trio looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run each async test that uses ``autojump_clock`` on virtual time."""
    for item in items:
        if not inspect.iscoroutinefunction(getattr(item, "obj", None)):
            continue
        if any("autojump_clock" in mark.args for mark in item.iter_markers("usefixtures")):
            item.add_marker(pytest.mark.trio(run=_run_on_virtual_time))


def _run_on_virtual_time(
    test: Callable[[], Awaitable[object]], *, clock: object, instruments: Sequence[trio.abc.Instrument]
) -> object:
    assert clock is None
    return trio.run(_limited, test, clock=MockClock(autojump_threshold=0), instruments=instruments)


async def _limited(test: Callable[[], Awaitable[object]]) -> object:
    with trio.fail_after(VIRTUAL_SECONDS):
        return await test()
