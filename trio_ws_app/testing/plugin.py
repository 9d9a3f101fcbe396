"""The pytest plugin: servers in memory, virtual time, and a mark for cancellation.

``README.md`` beside this file describes it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from .cancel_everywhere import CancellationDefect, cancel_everywhere
from .fixtures import HttpFixture, ServerFixture, run_on_virtual_time, run_with_servers

MARK = "cancel_everywhere"
_SCENARIO = pytest.StashKey[Callable[..., Awaitable[object]]]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers",
        f"{MARK}(victim='scenario', only=None, schedules=1, forked=False): run this async test once for each "
        "point at which it can be cancelled, as trio_ws_app.testing.cancel_everywhere does",
    )


@pytest.fixture
def ws_server() -> ServerFixture:
    """``server = await ws_server(application)``: serve in memory, on virtual time, until the test ends."""
    return ServerFixture()


@pytest.fixture
def ws_http(ws_server: ServerFixture) -> HttpFixture:
    """``http = await ws_http(server)``: an ``httpx.AsyncClient`` of what ``ws_server`` serves."""
    return HttpFixture(ws_server)


@pytest.hookimpl(tryfirst=True)  # before pytest-trio looks at the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run each async test that uses ``ws_server``, or ``autojump_clock`` as a mark, on virtual time."""
    for item in items:
        if not isinstance(item, pytest.Function) or not inspect.iscoroutinefunction(item.obj):
            continue
        if item.get_closest_marker(MARK) is not None:
            item.stash[_SCENARIO] = item.obj
        elif _is_for_virtual_time(item) and config.pluginmanager.hasplugin("trio"):
            item.add_marker(pytest.mark.trio(run=functools.partial(run_on_virtual_time, item)))


def _is_for_virtual_time(item: pytest.Function) -> bool:
    """pytest-trio itself looks for clocks in a test's arguments only."""
    names = item.fixturenames
    is_argument = "autojump_clock" in inspect.signature(item.obj).parameters
    return "ws_server" in names or ("autojump_clock" in names and not is_argument)


@pytest.hookimpl(tryfirst=True)  # before pytest-trio, and before plugins that refuse async functions
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is marked with ``cancel_everywhere``, in Trio runs of its own."""
    mark = pyfuncitem.get_closest_marker(MARK)
    if mark is None:
        return None
    scenario = pyfuncitem.stash.get(_SCENARIO, None)
    if scenario is None:
        pytest.fail(f"a test that is marked with {MARK} is an async function", pytrace=False)
    fixtures: dict[str, Any] = pyfuncitem.funcargs
    arguments = {name: fixtures[name] for name in inspect.signature(scenario).parameters}

    @functools.wraps(scenario)  # what is reported has its name
    async def run() -> None:
        await run_with_servers(functools.partial(scenario, **arguments), fixtures.get("ws_server"))

    try:
        report = cancel_everywhere(run, *mark.args, **mark.kwargs)
    except CancellationDefect as error:
        defect = error
    else:
        print(report)
        return True
    pytest.fail(str(defect), pytrace=False)  # outside the block, so that the traces of Trio are not shown
